"""The client for code under asyncio; what each method does is told in :mod:`inferlane.synchronous`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any, Self, TypeVar, Unpack

import httpx

from inferlane import batches, flow, operations
from inferlane.address import DEFAULT_URL, Address
from inferlane.answers import InOrder, Outcome, Result, Snapshot
from inferlane.errors import ClientError
from inferlane.events import Event, Listening
from inferlane.exchange import Limits
from inferlane.flow import Flow
from inferlane.images import Source, read
from inferlane.jobs import AsyncBatch, AsyncJob
from inferlane.listening import listen_async
from inferlane.operations import Options, Order, Wishes
from inferlane.retries import Retries

T = TypeVar("T")


class AsyncClient:
    """As :class:`~inferlane.Client`, to be awaited.

    ::

        async with AsyncClient("http://127.0.0.1:8000") as client:
            job = await client.submit("photo.jpg", priority="high")
            print((await job).best.label)
    """

    def __init__(
        self, base_url: str = DEFAULT_URL, api_key: str | None = None, *, timeout: float = 60.0,
        retries: Retries | None = None, transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.address = Address(url=base_url, api_key=api_key, timeout=timeout, retries=retries or Retries())
        self._http = httpx.AsyncClient(transport=transport, **self.address.arguments())

    # -- one image

    async def predict(
        self, image: Source, model: str = "any", *, request_id: str | None = None,
        timeout: float | None = None, **wishes: Unpack[Options],  # noqa: ASYNC109 - keeps the job handle
    ) -> Result:  # fmt: skip
        """The answer for ``image``, as :meth:`inferlane.Client.predict`."""
        order = await asyncio.to_thread(Order.of, image, request_id, model=model, **wishes)
        return await self.run(operations.predict(order, self.limits(timeout)))

    async def submit(
        self, image: Source, model: str = "any", *, request_id: str | None = None, **wishes: Unpack[Options]
    ) -> AsyncJob:
        """Hand ``image`` in and return at once with a handle on the request; await the handle for the result."""
        order = await asyncio.to_thread(Order.of, image, request_id, model=model, **wishes)
        return self.job((await self.run(operations.submit(order, self.limits()))).request_id)

    def job(self, request_id: str) -> AsyncJob:
        """The handle of a request handed in earlier."""
        return AsyncJob(self, request_id)

    # -- many images

    def as_completed(
        self, images: Iterable[Source], *, concurrency: int = 8, timeout: float | None = None, **wishes: Unpack[Wishes]
    ) -> AsyncGenerator[Outcome, None]:
        """How each of ``images`` ended, as :meth:`inferlane.Client.as_completed`; closing it early stops at once."""
        return self._each(images, concurrency, timeout, wishes)

    async def _each(
        self, images: Iterable[Source], concurrency: int,
        timeout: float | None, wishes: Wishes,  # noqa: ASYNC109
    ) -> AsyncGenerator[Outcome, None]:  # fmt: skip
        todo = enumerate(images)
        running: set[asyncio.Task[Outcome]] = set()
        try:
            while True:
                for index, source in islice(todo, concurrency - len(running)):
                    running.add(asyncio.create_task(self._outcome(index, source, timeout, wishes)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _outcome(
        self, index: int, source: Source, timeout: float | None, wishes: Wishes  # noqa: ASYNC109
    ) -> Outcome:  # fmt: skip
        try:
            order = await asyncio.to_thread(Order.of, source, **wishes)
            return Outcome(index, source, await self.run(operations.predict(order, self.limits(timeout))))
        except ClientError as error:
            return Outcome(index, source, error=error)

    async def map(
        self, images: Iterable[Source], *, concurrency: int = 8,
        timeout: float | None = None, **wishes: Unpack[Wishes],  # noqa: ASYNC109
    ) -> AsyncIterator[Result]:  # fmt: skip
        """The result of each of ``images`` in the order given, as :meth:`inferlane.Client.map`."""
        line = InOrder()
        async with aclosing(self._each(images, concurrency, timeout, wishes)) as outcomes:
            async for outcome in outcomes:
                for ready in line.add(outcome):
                    yield ready.unwrap()

    async def submit_batch(self, images: Iterable[Source], model: str = "any", **wishes: Unpack[Options]) -> AsyncBatch:
        """Hand ``images`` in with one call; await the handle for the outcomes."""
        sources: Sequence[Source] = list(images)
        uploads = await asyncio.to_thread(lambda: [read(source) for source in sources])
        snapshot = await self.run(batches.submit(uploads, self.limits(), model, **wishes))
        return AsyncBatch(self, snapshot.batch_id, sources)

    def batch(self, batch_id: str) -> AsyncBatch:
        """The handle of a batch handed in earlier."""
        return AsyncBatch(self, batch_id)

    # -- what was handed in, by whomever

    async def requests(
        self, *, status: str | None = None, model_type: str | None = None, page_size: int = 100
    ) -> AsyncIterator[Snapshot]:
        """The recent requests, newest first, as :meth:`inferlane.Client.requests`."""
        asked, cursor = operations.asked_for(status, model_type, page_size), None
        while True:
            page = await self.run(operations.page(asked, cursor, self.limits()))
            for snapshot in page.snapshots:
                yield snapshot
            if (cursor := page.cursor) is None:
                return

    # -- the system

    async def document(
        self, path: str, *, method: str = "GET", accept: Collection[int] = (), params: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The JSON object at ``path`` of the API, as :meth:`inferlane.Client.document`."""
        call = operations.document(path, self.limits(), method=method, accept=accept, params=params, body=body)
        return await self.run(call)

    # -- itself

    def limits(self, timeout: float | None = None) -> Limits:
        """The limits of a call that begins now."""
        return self.address.limits(timeout)

    async def run(self, steps: Flow[T]) -> T:
        """Run a flow of :mod:`inferlane.operations`."""
        return await flow.run_async(steps, self._http)

    def listen(self, steps: Listening) -> AsyncGenerator[Event, None]:
        """The events that ``steps`` of :mod:`inferlane.events` hear of."""
        return listen_async(steps, self._http)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
