"""A connection to the API: the one place where the blocking and the awaited client differ.

Every operation is a coroutine over a :class:`Connection`. On an :class:`AsyncConnection` the caller's event
loop runs it. A :class:`SyncConnection` sends, reads and sleeps before it returns, so the same coroutine runs to its end
at once.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import httpx

from inferlane.images import Source, Upload, read
from inferlane.retries import CallLimits, Retries

P = ParamSpec("P")
T = TypeVar("T")
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


class Connection(ABC):
    """The address of the API, how calls to it are limited, and what a coroutine may do.

    Attributes:
        timeout: seconds one call of a client may take in all, retries and waiting included.
        retries: when to try again within that.
    """

    http: httpx.Client | httpx.AsyncClient

    def __init__(self, url: str, api_key: str | None, timeout: float, retries: Retries | None) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{url!r} is no URL: {error}") from None
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError(f"{url!r} is no URL of an API: it must begin with http:// or https:// and name a host")
        self.url, self.api_key, self.timeout, self.retries = url, api_key, timeout, retries or Retries()

    def limits(self, timeout: float | None = None) -> CallLimits:
        """The limits of a call that begins now."""
        return CallLimits.within(self.timeout if timeout is None else timeout, self.retries)

    def request(self, call: Call, timeout: float) -> httpx.Request:
        """``call`` as httpx sends it; it fails after ``timeout`` seconds without a byte."""
        silence = httpx.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout), pool=None)
        return self.http.build_request(call.method, call.path, timeout=silence, **call.options)

    @abstractmethod
    async def send(self, call: Call, timeout: float) -> httpx.Response:
        """The answer to ``call``; with ``call.stream`` a success is still open."""

    @abstractmethod
    def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """The bytes of an open answer as they arrive."""

    @abstractmethod
    async def hang_up(self, answer: httpx.Response) -> None:
        """Close an open answer."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let this many seconds pass."""

    @abstractmethod
    async def load(self, sources: Sequence[Source]) -> list[Upload]:
        """Read images into memory."""

    def _arguments(self) -> dict[str, Any]:
        """The arguments of the ``httpx`` client."""
        headers = {"User-Agent": AGENT, "Accept": "application/json, */*;q=0.5"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        # No proxy leads to this host; over TLS the environment may name its certificates.
        trust_env = self.url.startswith("https:") or not is_loopback(self.url)
        return {"base_url": self.url, "headers": headers, "limits": limits, "trust_env": trust_env}


class SyncConnection(Connection):
    """Does its work before it returns, with an ``httpx.Client``."""

    http: httpx.Client

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout: float = 60.0, retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        super().__init__(url, api_key, timeout, retries)
        self.http = httpx.Client(transport=transport, **self._arguments())

    async def send(self, call: Call, timeout: float) -> httpx.Response:
        answer = self.http.send(self.request(call, timeout), stream=call.stream)
        if call.stream and not answer.is_success:
            answer.read()
        return answer

    async def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        for chunk in answer.iter_bytes():
            yield chunk

    async def hang_up(self, answer: httpx.Response) -> None:
        answer.close()

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - it blocks

    async def load(self, sources: Sequence[Source]) -> list[Upload]:
        return [read(source) for source in sources]

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
    """Works in the caller's event loop, with an ``httpx.AsyncClient``; images are read in a thread."""

    http: httpx.AsyncClient

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout: float = 60.0, retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        super().__init__(url, api_key, timeout, retries)
        self.http = httpx.AsyncClient(transport=transport, **self._arguments())

    async def send(self, call: Call, timeout: float) -> httpx.Response:
        answer = await self.http.send(self.request(call, timeout), stream=call.stream)
        if call.stream and not answer.is_success:
            await answer.aread()
        return answer

    def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        return answer.aiter_bytes()

    async def hang_up(self, answer: httpx.Response) -> None:
        await answer.aclose()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def load(self, sources: Sequence[Source]) -> list[Upload]:
        return await asyncio.to_thread(lambda: [read(source) for source in sources])

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """``coroutine``, for the caller to await."""
        return coroutine

    def stream(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """``items``, for the caller to iterate over."""
        return items


class Blocking(Protocol):
    """What returns when its operations are done."""

    @property
    def connection(self) -> SyncConnection:
        """Runs its operations."""


class Awaiting(Protocol):
    """What is awaited."""

    @property
    def connection(self) -> AsyncConnection:
        """Runs its operations."""


class _Method:
    """A method that its owner's connection runs."""

    runner: str

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self._build

        @functools.wraps(self._build)
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(owner.connection, self.runner)(self._build(owner, *args, **kwargs))

        return call


class operation(_Method, Generic[P, T]):  # noqa: N801 - a decorator
    """A coroutine method: calling it gives the result on a blocking connection, else something to await."""

    runner = "run"

    def __init__(self, build: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, owner: Blocking, kind: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Awaiting, kind: type | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return super().__get__(owner, kind)


class stream(_Method, Generic[P, T]):  # noqa: N801 - a decorator
    """A method that is an asynchronous generator: calling it gives an iterator of its items, blocking or not."""

    runner = "stream"

    def __init__(self, build: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, owner: Blocking, kind: type | None = None) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, owner: Awaiting, kind: type | None = None) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return super().__get__(owner, kind)
