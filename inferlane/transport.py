"""Runs flows: :class:`SyncTransport` with an ``httpx.Client``, :class:`AsyncTransport` with an ``httpx.AsyncClient``.

``@operation`` and ``@stream`` make a method that builds a flow into one that also runs it, so the clients and their
handles write each operation once.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import httpx

from inferlane.address import Address
from inferlane.errors import ClientError
from inferlane.exchange import CallLimits
from inferlane.flow import Call, Flow, Item, Load, Pause, Read, Stream
from inferlane.images import read

P = ParamSpec("P")
T = TypeVar("T")
FAILURES = (httpx.RequestError, ClientError)  # of a step: thrown into the flow


class Run(Generic[T]):
    """A flow in progress.

    Attributes:
        step: what it wants next, None when it has ended.
        value: what it returned.
        answer: the open answer of its last call, with the iterator of its bytes in ``chunks``.
    """

    value: T
    answer: httpx.Response | None = None
    chunks: Iterator[bytes] | AsyncIterator[bytes] | None = None

    def __init__(self, flow: Generator[Any, Any, T]) -> None:
        self._flow = flow
        self.step: Any = None
        self.resume()

    def resume(self, found: Any = None, error: Exception | None = None) -> None:
        """Go on with what came of the step."""
        try:
            self.step = self._flow.send(found) if error is None else self._flow.throw(error)
        except StopIteration as end:
            self.step, self.value = None, end.value


@dataclass(frozen=True, slots=True)
class BaseTransport:
    """The address of the API and the limits of calls to it."""

    address: Address

    def limits(self, timeout: float | None = None) -> CallLimits:
        """The limits of a call that begins now."""
        return self.address.limits(timeout)


@dataclass(frozen=True, slots=True)
class SyncTransport(BaseTransport):
    """Runs flows with an ``httpx.Client``."""

    http: httpx.Client

    def run(self, flow: Flow[T]) -> T:
        """What ``flow`` returns."""
        run = Run(flow)
        while run.step is not None:
            self._advance(run)
        return run.value

    def stream(self, flow: Stream[T]) -> Generator[T, None, None]:
        """The items of ``flow``; closing the iterator closes the connection."""
        run = Run(flow)
        try:
            while run.step is not None:
                if isinstance(run.step, Item):
                    yield run.step.value
                    run.resume()
                else:
                    self._advance(run)
        finally:
            self._close(run)

    def _advance(self, run: Run[Any]) -> None:
        try:
            found = self._perform(run)
        except FAILURES as error:
            run.resume(error=error)
        else:
            run.resume(found)

    def _perform(self, run: Run[Any]) -> Any:
        match run.step:
            case Load(sources):
                return [read(source) for source in sources]
            case Read():
                return next(run.chunks, None)  # type: ignore[arg-type] # a transport's own iterator
            case Pause(seconds):
                self._close(run)
                return time.sleep(seconds)
            case Call() as call:
                return self._send(run, call)

    def _send(self, run: Run[Any], call: Call) -> httpx.Response:
        self._close(run)
        answer = self.http.send(self.http.build_request(**call.arguments()), stream=call.stream)
        if call.stream:
            run.answer, run.chunks = answer, answer.iter_bytes()
            if not answer.is_success:
                answer.read()
        return answer

    def _close(self, run: Run[Any]) -> None:
        if run.answer is not None:
            run.answer.close()


@dataclass(frozen=True, slots=True)
class AsyncTransport(BaseTransport):
    """Runs flows with an ``httpx.AsyncClient``; images are read in a thread."""

    http: httpx.AsyncClient

    async def run(self, flow: Flow[T]) -> T:
        """As :meth:`SyncTransport.run`."""
        run = Run(flow)
        while run.step is not None:
            await self._advance(run)
        return run.value

    async def stream(self, flow: Stream[T]) -> AsyncGenerator[T, None]:
        """As :meth:`SyncTransport.stream`."""
        run = Run(flow)
        try:
            while run.step is not None:
                if isinstance(run.step, Item):
                    yield run.step.value
                    run.resume()
                else:
                    await self._advance(run)
        finally:
            await self._close(run)

    async def _advance(self, run: Run[Any]) -> None:
        try:
            found = await self._perform(run)
        except FAILURES as error:
            run.resume(error=error)
        else:
            run.resume(found)

    async def _perform(self, run: Run[Any]) -> Any:
        match run.step:
            case Load(sources):
                return await asyncio.to_thread(lambda: [read(source) for source in sources])
            case Read():
                return await anext(run.chunks, None)  # type: ignore[arg-type] # a transport's own iterator
            case Pause(seconds):
                await self._close(run)
                return await asyncio.sleep(seconds)
            case Call() as call:
                return await self._send(run, call)

    async def _send(self, run: Run[Any], call: Call) -> httpx.Response:
        await self._close(run)
        answer = await self.http.send(self.http.build_request(**call.arguments()), stream=call.stream)
        if call.stream:
            run.answer, run.chunks = answer, aiter(answer.aiter_bytes())
            if not answer.is_success:
                await answer.aread()
        return answer

    async def _close(self, run: Run[Any]) -> None:
        if run.answer is not None:
            await run.answer.aclose()


class Blocking(Protocol):
    """What returns when its flows are done."""

    @property
    def transport(self) -> SyncTransport:
        """Runs its flows."""


class Awaiting(Protocol):
    """What is awaited."""

    @property
    def transport(self) -> AsyncTransport:
        """Runs its flows."""


class _Method:
    """A method that builds a flow; its owner's transport runs the flow."""

    runner: str

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self._build

        @functools.wraps(self._build)
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(owner.transport, self.runner)(self._build(owner, *args, **kwargs))

        return call


class operation(_Method, Generic[P, T]):  # noqa: N801 - a decorator
    """A method that builds a :data:`~inferlane.flow.Flow`; calling it gives the result, or a coroutine of it."""

    runner = "run"

    def __init__(self, build: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, owner: Blocking, kind: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, owner: Awaiting, kind: type | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return super().__get__(owner, kind)


class stream(_Method, Generic[P, T]):  # noqa: N801 - a decorator
    """A method that builds a :data:`~inferlane.flow.Stream`; calling it gives an iterator of its items."""

    runner = "stream"

    def __init__(self, build: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        super().__init__(build)

    @overload
    def __get__(self, owner: Blocking, kind: type | None = None) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, owner: Awaiting, kind: type | None = None) -> Callable[P, AsyncGenerator[T, None]]: ...
    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return super().__get__(owner, kind)
