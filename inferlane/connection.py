"""A connection to the API: the one place where the blocking and the awaited client differ.

Every operation is a coroutine over a :class:`Connection`. On an :class:`AsyncConnection` the caller's event
loop runs it. A :class:`SyncConnection` sends, reads and sleeps before it returns, so the same coroutine runs to its end
at once.
"""

import asyncio
import functools
import ipaddress
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import httpx

from inferlane.images import Source, Upload, read
from inferlane.retries import CallLimits, Retries

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
DEFAULT_URL = "http://127.0.0.1:8000"
AGENT = "inferlane-client"
CONNECT_TIMEOUT = 5.0  # seconds; a running host answers a SYN at once


def is_loopback(url: str) -> bool:
    """Whether ``url`` can only be reached from this host."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request to be sent.

    Attributes:
        options: of ``httpx.Client.build_request``: params, headers, content, json, files, data.
        wait: seconds that the API is asked to wait (``Prefer: wait``).
        stream: whether the answer stays open, to be read with :meth:`Connection.chunks`.
    """

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    wait: float = 0.0
    stream: bool = False


class Connection:
    """The API's address, the limits of calls, and the operations that coroutines use.

    Attributes:
        timeout: seconds one call of a client may take in all, retries and waiting included.
        retries: when to try again within that.
        http: an ``httpx.Client`` or ``httpx.AsyncClient``, whichever ``kind`` names.
        awaits: whether it is an ``httpx.AsyncClient``.
    """

    kind: type[httpx.Client | httpx.AsyncClient]
    http: Any
    awaits: bool

    def __init__(
        self, url: str = DEFAULT_URL, api_key: str | None = None, *, timeout: float = 60.0,
        retries: Retries | None = None, transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{url!r} is no URL: {error}") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError(f"{url!r} is no URL of an API: it must begin with http:// or https:// and name a host")
        self.url, self.api_key, self.timeout, self.retries = url, api_key, timeout, retries or Retries()
        headers = {"User-Agent": AGENT, "Accept": "application/json, */*;q=0.5"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        pool: dict[str, Any] = {"limits": httpx.Limits(max_connections=None, max_keepalive_connections=64)}
        # Proxies are ignored for this host; over TLS the environment may name certificates.
        pool["trust_env"] = url.startswith("https:") or not is_loopback(url)
        self.http = self.kind(base_url=url, headers=headers, transport=transport, **pool)  # type: ignore[arg-type]

    def limits(self, timeout: float | None = None) -> CallLimits:
        """The limits of a call that begins now."""
        return CallLimits.within(self.timeout if timeout is None else timeout, self.retries)

    def request(self, call: Call, timeout: float) -> httpx.Request:
        """``call`` as httpx sends it; it fails after ``timeout`` seconds without a byte."""
        silence = httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout), pool=None)
        request: httpx.Request = self.http.build_request(call.method, call.path, timeout=silence, **call.options)
        return request

    async def send(self, call: Call, timeout: float) -> httpx.Response:
        """The answer to ``call``; with ``call.stream`` a success is still open."""
        request = self.request(call, timeout)
        answer: httpx.Response = await _done(self.http.send(request, stream=call.stream))
        if call.stream and not answer.is_success:
            await _done(answer.aread() if self.awaits else answer.read())
        return answer

    async def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """The bytes of an open answer as they arrive."""
        if self.awaits:
            async for chunk in answer.aiter_bytes():
                yield chunk
        else:
            for chunk in answer.iter_bytes():
                yield chunk

    async def hang_up(self, answer: httpx.Response) -> None:
        """Close an open answer."""
        if self.awaits:
            await answer.aclose()
        else:
            answer.close()

    async def pause(self, seconds: float) -> None:
        """Let this many seconds pass."""
        if self.awaits:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)  # noqa: ASYNC251 - it blocks

    async def load(self, sources: Sequence[Source]) -> list[Upload]:
        """Read images into memory, in a thread where the caller's event loop must go on."""

        def read_all() -> list[Upload]:
            return [read(source) for source in sources]

        return await asyncio.to_thread(read_all) if self.awaits else read_all()


async def _done(result: Any) -> Any:
    """The result of a method of either httpx client."""
    return await result if isawaitable(result) else result


class SyncConnection(Connection):
    """Does its work before it returns, with an ``httpx.Client``."""

    kind = httpx.Client
    http: httpx.Client
    awaits = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What ``coroutine`` returns."""
        try:
            coroutine.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise RuntimeError("a coroutine over a blocking connection was suspended")

    def stream(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """``items``; closing the iterator closes the connection."""
        try:
            while True:
                try:
                    item = self.run(items.asend(None))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.run(items.aclose())


class AsyncConnection(Connection):
    """Works in the caller's event loop, with an ``httpx.AsyncClient``."""

    kind = httpx.AsyncClient
    http: httpx.AsyncClient
    awaits = True


class Blocking(Protocol):
    """An object whose operations block."""

    @property
    def connection(self) -> SyncConnection:
        """Runs its operations."""


class Awaiting(Protocol):
    """An object whose operations are awaited."""

    @property
    def connection(self) -> AsyncConnection:
        """Runs its operations."""


class Method(Generic[P, T, A]):
    """A method of a client or a handle, which is a coroutine or an asynchronous generator over its connection.

    On a :class:`SyncConnection` calling it gives the result or an iterator, else something to await or iterate over.
    """

    def __init__(self, build: Callable[Concatenate[Any, P], Any]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, owner: Blocking, kind: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Awaiting, kind: type | None = None) -> Callable[P, A]: ...
    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self._build

        @functools.wraps(self._build)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            made = self._build(owner, *args, **kwargs)
            if isinstance(owner.connection, AsyncConnection):
                return made
            connection: SyncConnection = owner.connection
            return connection.stream(made) if isinstance(made, AsyncGenerator) else connection.run(made)

        return call


def operation(
    build: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Method[P, T, Coroutine[Any, Any, T]]:
    """Make a coroutine function a :class:`Method`."""
    return Method(build)


def stream(
    build: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> Method[P, Generator[T, None, None], AsyncGenerator[T, None]]:
    """Make an asynchronous generator function a :class:`Method`."""
    return Method(build)
