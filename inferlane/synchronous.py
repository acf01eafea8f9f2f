"""The client for ordinary code: every method returns when it is done."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
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
from inferlane.jobs import Batch, Job
from inferlane.listening import listen
from inferlane.operations import Options, Order, Wishes
from inferlane.retries import Retries

T = TypeVar("T")


class Client:
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

    def __init__(
        self, base_url: str = DEFAULT_URL, api_key: str | None = None, *, timeout: float = 60.0,
        retries: Retries | None = None, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.address = Address(url=base_url, api_key=api_key, timeout=timeout, retries=retries or Retries())
        self._http = httpx.Client(transport=transport, **self.address.arguments())

    # -- one image

    def predict(
        self, image: Source, model: str = "any", *, request_id: str | None = None, timeout: float | None = None,
        **wishes: Unpack[Options],
    ) -> Result:  # fmt: skip
        """The answer for ``image``: a path, bytes, or an open file.

        Raises:
            Timeout: none within ``timeout`` seconds; ``client.job(error.request_id)`` still leads to it.
            ClientError: see :mod:`inferlane.errors`.
        """
        order = Order.of(image, request_id, model=model, **wishes)
        return self.run(operations.predict(order, self.limits(timeout)))

    def submit(
        self, image: Source, model: str = "any", *, request_id: str | None = None, **wishes: Unpack[Options]
    ) -> Job:
        """Hand ``image`` in and return at once with a handle on the request."""
        order = Order.of(image, request_id, model=model, **wishes)
        return self.job(self.run(operations.submit(order, self.limits())).request_id)

    def job(self, request_id: str) -> Job:
        """The handle of a request handed in earlier, by whomever."""
        return Job(self, request_id)

    # -- many images

    def as_completed(
        self, images: Iterable[Source], *, concurrency: int = 8, timeout: float | None = None, **wishes: Unpack[Wishes]
    ) -> Iterator[Outcome]:
        """How each of ``images`` ended, in the order in which they end.

        At most ``concurrency`` images are read and under way at a time, so there may be any number of them. An image
        that fails is an outcome with an error and stops nothing. Closing the iterator early waits for those under way.
        """
        return self._each(images, concurrency, timeout, wishes)

    def _each(
        self, images: Iterable[Source], concurrency: int, timeout: float | None, wishes: Wishes
    ) -> Generator[Outcome, None, None]:
        todo = enumerate(images)
        running: set[Future[Outcome]] = set()
        with ThreadPoolExecutor(concurrency, "inferlane") as pool:
            while True:
                for index, source in islice(todo, concurrency - len(running)):
                    running.add(pool.submit(self._outcome, index, source, timeout, wishes))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()

    def _outcome(self, index: int, source: Source, timeout: float | None, wishes: Wishes) -> Outcome:
        try:
            order = Order.of(source, **wishes)
            return Outcome(index, source, self.run(operations.predict(order, self.limits(timeout))))
        except ClientError as error:
            return Outcome(index, source, error=error)

    def map(
        self, images: Iterable[Source], *, concurrency: int = 8, timeout: float | None = None, **wishes: Unpack[Wishes]
    ) -> Iterator[Result]:
        """The result of each of ``images`` in the order given, as soon as it and all before it are there.

        Raises:
            ClientError: that of the first image that failed.
        """
        line = InOrder()
        with closing(self._each(images, concurrency, timeout, wishes)) as outcomes:
            for outcome in outcomes:
                for ready in line.add(outcome):
                    yield ready.unwrap()

    def submit_batch(self, images: Iterable[Source], model: str = "any", **wishes: Unpack[Options]) -> Batch:
        """Hand ``images`` in with one call; the API limits their number and their bytes together."""
        sources: Sequence[Source] = list(images)
        call = batches.submit([read(source) for source in sources], self.limits(), model, **wishes)
        return Batch(self, self.run(call).batch_id, sources)

    def batch(self, batch_id: str) -> Batch:
        """The handle of a batch handed in earlier."""
        return Batch(self, batch_id)

    # -- what was handed in, by whomever

    def requests(
        self, *, status: str | None = None, model_type: str | None = None, page_size: int = 100
    ) -> Iterator[Snapshot]:
        """The recent requests, newest first, fetched page by page as they are taken.

        Args:
            status: only those in this state.
            model_type: only those that asked for this model; "any" is one of its own.
            page_size: how many one call brings, 1 to 500.
        """
        asked, cursor = operations.asked_for(status, model_type, page_size), None
        while True:
            page = self.run(operations.page(asked, cursor, self.limits()))
            yield from page.snapshots
            if (cursor := page.cursor) is None:
                return

    # -- the system

    def document(
        self, path: str, *, method: str = "GET", accept: Collection[int] = (), params: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The JSON object at ``path`` of the API, for what has no method here; ``accept`` names errors to return."""
        call = operations.document(path, self.limits(), method=method, accept=accept, params=params, body=body)
        return self.run(call)

    def health(self) -> dict[str, Any]:
        """``/health``: the system in one word (``status``) and the reasons; unhealthy is no error here."""
        return self.document("/health", accept={503})

    def queues(self) -> dict[str, Any]:
        """``/queue/status``: how many wait, by priority and by lane."""
        return self.document("/queue/status")

    def workers(self) -> list[dict[str, Any]]:
        """The live workers."""
        return list(self.document("/workers/status")["workers"])

    def models(self) -> list[dict[str, Any]]:
        """What ``model`` may say."""
        return list(self.document("/models")["models"])

    def metrics(self) -> dict[str, Any]:
        """Counters and latencies."""
        return self.document("/metrics")

    # -- itself

    def limits(self, timeout: float | None = None) -> Limits:
        """The limits of a call that begins now."""
        return self.address.limits(timeout)

    def run(self, steps: Flow[T]) -> T:
        """Run a flow of :mod:`inferlane.operations`."""
        return flow.run(steps, self._http)

    def listen(self, steps: Listening) -> Generator[Event, None, None]:
        """The events that ``steps`` of :mod:`inferlane.events` hear of."""
        return listen(steps, self._http)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
