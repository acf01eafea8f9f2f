"""The two clients: :class:`Client` returns when a call is done, :class:`AsyncClient` is awaited."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import aclosing, closing
from itertools import islice
from typing import Any, Generic, Self, TypeVar, Unpack

import httpx

from inferlane import operations
from inferlane.address import DEFAULT_URL, Address
from inferlane.answers import InOrder, Outcome, Result, Snapshot
from inferlane.errors import ClientError
from inferlane.flow import Flow, Stream
from inferlane.images import Source
from inferlane.jobs import AsyncBatch, AsyncJob, Batch, Job
from inferlane.operations import Options, Parameters
from inferlane.retries import Retries
from inferlane.transport import AsyncTransport, BaseTransport, SyncTransport, operation, stream

JOB = TypeVar("JOB")
BATCH = TypeVar("BATCH")


class _Calls(Generic[JOB, BATCH]):
    """The operations of both clients."""

    transport: BaseTransport

    @property
    def address(self) -> Address:
        """Where the API is, and how calls to it are limited."""
        return self.transport.address

    @abstractmethod
    def job(self, request_id: str) -> JOB:
        """The handle of a request; any client may have submitted it."""

    @abstractmethod
    def batch(self, batch_id: str, sources: Sequence[Source] = ()) -> BATCH:
        """The handle of a batch; its outcomes name the ``sources``, the images in the order sent."""

    @operation
    def predict(
        self, image: Source, model: str = "any", *, request_id: str | None = None, timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Flow[Result]:  # fmt: skip
        """The answer for ``image``: a path, bytes, or an open file.

        Raises:
            Timeout: none within ``timeout`` seconds; ``client.job(error.request_id)`` still leads to it.
            ClientError: see :mod:`inferlane.errors`.
        """
        submission = yield from operations.load(image, request_id, model=model, **options)
        return (yield from operations.predict(submission, self.transport.limits(timeout)))

    @operation
    def submit(
        self, image: Source, model: str = "any", *, request_id: str | None = None, **options: Unpack[Options]
    ) -> Flow[JOB]:
        """Submit ``image`` and return at once with a handle on the request."""
        submission = yield from operations.load(image, request_id, model=model, **options)
        snapshot = yield from operations.submit(submission, self.transport.limits())
        return self.job(snapshot.request_id)

    @operation
    def submit_batch(self, images: Iterable[Source], model: str = "any", **options: Unpack[Options]) -> Flow[BATCH]:
        """Submit ``images`` with one call; the API limits their number and their bytes together."""
        sources = list(images)
        snapshot = yield from operations.submit_batch(sources, self.transport.limits(), model, **options)
        return self.batch(snapshot.batch_id, sources)

    @stream
    def requests(
        self, *, status: str | None = None, model_type: str | None = None, page_size: int = 100
    ) -> Stream[Snapshot]:
        """The recent requests, newest first, fetched page by page as they are taken.

        Args:
            status: only those in this state.
            model_type: only those that asked for this model, where "any" is one.
            page_size: how many one call brings, 1 to 500.
        """
        return operations.requests(self.transport.limits, status, model_type, page_size)

    @operation
    def document(
        self, path: str, *, method: str = "GET", accept: Collection[int] = (), params: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Flow[dict[str, Any]]:  # fmt: skip
        """The JSON object at ``path`` of the API, for what has no method here; ``accept`` names errors to return."""
        return operations.document(
            path, self.transport.limits(), method=method, accept=accept, params=params, body=body
        )

    @operation
    def health(self) -> Flow[dict[str, Any]]:
        """``/health``: the system in one word (``status``) and the reasons; unhealthy is no error here."""
        return operations.document("/health", self.transport.limits(), accept={503})

    @operation
    def queues(self) -> Flow[dict[str, Any]]:
        """``/queue/status``: the backlog, by priority and by lane."""
        return operations.document("/queue/status", self.transport.limits())

    @operation
    def workers(self) -> Flow[list[dict[str, Any]]]:
        """The live workers."""
        found = yield from operations.document("/workers/status", self.transport.limits())
        return list(found["workers"])

    @operation
    def models(self) -> Flow[list[dict[str, Any]]]:
        """The models that requests may name."""
        found = yield from operations.document("/models", self.transport.limits())
        return list(found["models"])

    @operation
    def metrics(self) -> Flow[dict[str, Any]]:
        """Counters and latencies."""
        return operations.document("/metrics", self.transport.limits())

    def _outcome(self, index: int, source: Source, timeout: float | None, params: Parameters) -> Flow[Outcome]:
        """How one image of many ended."""
        try:
            submission = yield from operations.load(source, **params)
            found = yield from operations.predict(submission, self.transport.limits(timeout))
        except ClientError as error:
            return Outcome(index, source, error=error)
        return Outcome(index, source, found)


class Client(_Calls[Job, Batch]):
    """Classifies images with the Inferlane API at ``base_url``; safe to share between threads.

    ::

        with Client("http://127.0.0.1:8000") as client:
            print(client.predict("photo.jpg").best.label)

    Args:
        base_url: where the API is.
        api_key: sent with every call, where the API asks for one.
        timeout: seconds a call may take in all, retries and waiting for the answer included.
        retries: when to try again within that time.
        transport: how bytes travel; for tests.

    Raises:
        ValueError: ``base_url`` is no URL.
    """

    transport: SyncTransport

    def __init__(
        self, base_url: str = DEFAULT_URL, api_key: str | None = None, *, timeout: float = 60.0,
        retries: Retries | None = None, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        address = Address(url=base_url, api_key=api_key, timeout=timeout, retries=retries or Retries())
        self.transport = SyncTransport(address, httpx.Client(transport=transport, **address.arguments()))

    def job(self, request_id: str) -> Job:
        """The handle of a request; any client may have submitted it."""
        return Job(self.transport, request_id)

    def batch(self, batch_id: str, sources: Sequence[Source] = ()) -> Batch:
        """The handle of a batch; its outcomes name the ``sources``, the images in the order sent."""
        return Batch(self.transport, batch_id, sources)

    def as_completed(
        self, images: Iterable[Source], *, concurrency: int = 8, timeout: float | None = None,
        **params: Unpack[Parameters],
    ) -> Generator[Outcome, None, None]:  # fmt: skip
        """How each of ``images`` ended, in the order in which they end.

        At most ``concurrency`` images are read and in flight at a time, so there may be any number of them. An image
        that fails is an outcome with an error and stops nothing. Closing the iterator early waits for those in flight.
        """
        todo = enumerate(images)
        running: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(concurrency, "inferlane") as pool:
            while True:
                for index, source in islice(todo, concurrency - len(running)):
                    running.add(pool.submit(self.transport.run, self._outcome(index, source, timeout, params)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()

    def map(
        self, images: Iterable[Source], *, concurrency: int = 8, timeout: float | None = None,
        **params: Unpack[Parameters],
    ) -> Iterator[Result]:  # fmt: skip
        """The result of each of ``images`` in the order given, as soon as it and all before it are there.

        Raises:
            ClientError: that of the first image that failed.
        """
        line = InOrder()
        with closing(self.as_completed(images, concurrency=concurrency, timeout=timeout, **params)) as outcomes:
            for outcome in outcomes:
                for ready in line.add(outcome):
                    yield ready.unwrap()

    def close(self) -> None:
        """Close the connections."""
        self.transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Calls[AsyncJob, AsyncBatch]):
    """As :class:`~inferlane.Client`, to be awaited.

    ::

        async with AsyncClient("http://127.0.0.1:8000") as client:
            job = await client.submit("photo.jpg", priority="high")
            print((await job).best.label)
    """

    transport: AsyncTransport

    def __init__(
        self, base_url: str = DEFAULT_URL, api_key: str | None = None, *, timeout: float = 60.0,
        retries: Retries | None = None, transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        address = Address(url=base_url, api_key=api_key, timeout=timeout, retries=retries or Retries())
        self.transport = AsyncTransport(address, httpx.AsyncClient(transport=transport, **address.arguments()))

    def job(self, request_id: str) -> AsyncJob:
        """As :meth:`Client.job`; await the handle for the result."""
        return AsyncJob(self.transport, request_id)

    def batch(self, batch_id: str, sources: Sequence[Source] = ()) -> AsyncBatch:
        """As :meth:`Client.batch`; await the handle for the outcomes."""
        return AsyncBatch(self.transport, batch_id, sources)

    async def as_completed(
        self, images: Iterable[Source], *, concurrency: int = 8,
        timeout: float | None = None, **params: Unpack[Parameters],  # noqa: ASYNC109 - of each image
    ) -> AsyncGenerator[Outcome, None]:  # fmt: skip
        """As :meth:`Client.as_completed`; closing it early cancels the calls in flight."""
        todo = enumerate(images)
        running: set[asyncio.Task[Outcome]] = set()
        try:
            while True:
                for index, source in islice(todo, concurrency - len(running)):
                    running.add(asyncio.create_task(self.transport.run(self._outcome(index, source, timeout, params))))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def map(
        self, images: Iterable[Source], *, concurrency: int = 8,
        timeout: float | None = None, **params: Unpack[Parameters],  # noqa: ASYNC109 - of each image
    ) -> AsyncIterator[Result]:  # fmt: skip
        """As :meth:`Client.map`."""
        line = InOrder()
        outcomes = self.as_completed(images, concurrency=concurrency, timeout=timeout, **params)
        async with aclosing(outcomes):
            async for outcome in outcomes:
                for ready in line.add(outcome):
                    yield ready.unwrap()

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
