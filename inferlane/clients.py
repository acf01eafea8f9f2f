"""The two clients: :class:`Client` blocks, :class:`AsyncClient` is awaited."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Generic, Self, TypeVar, Unpack

import httpx

from inferlane.answers import Outcome, Result, Snapshot
from inferlane.connection import DEFAULT_URL, AsyncConnection, Call, Connection, SyncConnection, operation, stream
from inferlane.errors import ClientError, UnexpectedAnswer
from inferlane.exchange import document_of, exchange
from inferlane.images import Source
from inferlane.jobs import AsyncBatch, AsyncJob, Batch, Job
from inferlane.operations import BATCH, REQUEST, Options, Parameters, about, load, new_id, parameters, predict, prefer
from inferlane.retries import Retries

JOB = TypeVar("JOB")
GROUP = TypeVar("GROUP")
MAX_CUSTOM_ID = 200  # characters


class _Calls(Generic[JOB, GROUP]):
    """The operations of both clients."""

    connection: Connection
    _connect: type[Connection]
    _job: Callable[[Any, str], JOB]
    _batch: Callable[[Any, str, Sequence[Source]], GROUP]

    def __init__(
        self, base_url: str = DEFAULT_URL, api_key: str | None = None, *, timeout: float = 60.0,
        retries: Retries | None = None, transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.connection = self._connect(base_url, api_key, timeout=timeout, retries=retries, transport=transport)

    def job(self, request_id: str) -> JOB:
        """The handle of a request; any client may have submitted it."""
        return self._job(self.connection, request_id)

    def batch(self, batch_id: str, sources: Sequence[Source] = ()) -> GROUP:
        """The handle of a batch; its outcomes name the ``sources``, the images in the order sent."""
        return self._batch(self.connection, batch_id, sources)

    @operation
    async def predict(
        self, image: Source, model: str = "any", *, request_id: str | None = None, timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Result:  # fmt: skip
        """The answer for ``image``: a path, bytes, or an open file.

        Raises:
            Timeout: none within ``timeout`` seconds; ``client.job(error.request_id)`` still leads to it.
            ClientError: see :mod:`inferlane.errors`.
        """
        request_id = request_id or new_id()
        post = await load(self.connection, image, request_id, model=model, **options)
        return await predict(self.connection, post, request_id, self.connection.limits(timeout))

    @operation
    async def submit(
        self, image: Source, model: str = "any", *, request_id: str | None = None, **options: Unpack[Options]
    ) -> JOB:
        """Submit ``image`` and return at once with a handle on the request."""
        request_id = request_id or new_id()
        post = await load(self.connection, image, request_id, model=model, **options)
        with about(REQUEST, request_id):
            answer = await exchange(self.connection, lambda: post(0), self.connection.limits())
            return self.job(REQUEST.read(document_of(answer)).request_id)

    @operation
    async def submit_batch(self, images: Iterable[Source], model: str = "any", **options: Unpack[Options]) -> GROUP:
        """Submit ``images`` with one call, under a key that keeps a retry from running them twice.

        They must fit into memory together, and the API limits their number and bytes; for a folder of thousands,
        ``as_completed`` holds only a few at a time.
        """
        sources = list(images)
        uploads = await self.connection.load(sources)
        # The end of the name, as long as the API allows, without bytes that are no text.
        texts = (upload.name.encode("utf-8", "replace").decode()[-MAX_CUSTOM_ID:] for upload in uploads)
        names = [text or str(number) for number, text in enumerate(texts)]
        files = [
            ("image", (name, item.data, "application/octet-stream")) for name, item in zip(names, uploads, strict=True)
        ]
        form = {**parameters(model, **options), "custom_id": names}
        headers = {"Idempotency-Key": new_id()} | prefer(0)
        call = Call("POST", BATCH.root, {"headers": headers, "files": files, "data": form})
        answer = await exchange(self.connection, lambda: call, self.connection.limits())
        return self.batch(BATCH.read(document_of(answer)).batch_id, sources)

    @stream
    async def requests(
        self, *, status: str | None = None, model_type: str | None = None, page_size: int = 100
    ) -> AsyncGenerator[Snapshot, None]:
        """The recent requests, newest first, fetched page by page as they are taken.

        ``status`` and ``model_type`` ("any" is one) select; ``page_size`` is how many one call brings, 1 to 500.
        """
        given = {"status": status, "model_type": model_type, "limit": str(page_size)}
        params = {name: value for name, value in given.items() if value is not None}
        while True:
            page = await self._document(REQUEST.root, params=params)
            try:
                found = [REQUEST.read(item) for item in page["requests"]]
            except (KeyError, TypeError) as error:
                raise UnexpectedAnswer(f"the answer is no page of requests: {error!r}") from None
            for snapshot in found:
                yield snapshot
            if (cursor := page.get("next_cursor")) is None:
                return
            params["cursor"] = cursor

    @operation
    async def health(self) -> dict[str, Any]:
        """``/health``: the system's ``status`` and the reasons; unhealthy is no error here."""
        return await self._document("/health", accept={503})

    @operation
    async def queues(self) -> dict[str, Any]:
        """``/queue/status``: the backlog, by priority and by lane."""
        return await self._document("/queue/status")

    @operation
    async def workers(self) -> list[dict[str, Any]]:
        """The live workers."""
        return list((await self._document("/workers/status"))["workers"])

    @operation
    async def models(self) -> list[dict[str, Any]]:
        """The models that requests may name."""
        return list((await self._document("/models"))["models"])

    @operation
    async def metrics(self) -> dict[str, Any]:
        """Counters and latencies."""
        return await self._document("/metrics")

    async def _document(
        self, path: str, *, method: str = "GET", accept: Collection[int] = (), params: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The JSON object at any ``path`` of the API; ``accept`` names error statuses to return."""
        call = Call(method, path, {"params": dict(params or {}), "json": body})
        answer = await exchange(self.connection, lambda: call, self.connection.limits(), accept)
        return document_of(answer) if answer.content else {}

    document = operation(_document)

    async def _outcome(self, index: int, source: Source, timeout: float | None, params: Parameters) -> Outcome:
        """How one image of many ended."""
        request_id = new_id()
        try:
            post = await load(self.connection, source, request_id, **params)
            result = await predict(self.connection, post, request_id, self.connection.limits(timeout))
        except ClientError as error:
            return Outcome(index, source, error=error)
        return Outcome(index, source, result)


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

    connection: SyncConnection
    _connect, _job, _batch = SyncConnection, Job, Batch

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
                    running.add(pool.submit(self.connection.run, self._outcome(index, source, timeout, params)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()

    def close(self) -> None:
        """Close the connections."""
        self.connection.http.close()

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

    connection: AsyncConnection
    _connect, _job, _batch = AsyncConnection, AsyncJob, AsyncBatch

    async def as_completed(
        self, images: Iterable[Source], *, concurrency: int = 8,
        timeout: float | None = None, **params: Unpack[Parameters],
    ) -> AsyncGenerator[Outcome, None]:  # fmt: skip
        """As :meth:`Client.as_completed`; closing it early cancels the calls in flight."""
        todo = enumerate(images)
        running: set[asyncio.Task[Outcome]] = set()
        try:
            while True:
                for index, source in islice(todo, concurrency - len(running)):
                    running.add(asyncio.create_task(self._outcome(index, source, timeout, params)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def close(self) -> None:
        """Close the connections."""
        await self.connection.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
