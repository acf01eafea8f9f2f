"""Drives what :mod:`inferlane.events` asks for: opens streams, hands over their bytes, passes the events on.

Closing the iterator closes the connection, wherever it stands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

import httpx

from inferlane.events import Event, Listening, Read
from inferlane.flow import Call, Pause


def listen(steps: Listening, http: httpx.Client) -> Generator[Event, None, None]:
    """The events of ``steps``, heard with ``http``; errors of the transport are thrown into it."""
    ear = _Ear(http)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Event):
                yield step
                step = steps.send(None)
                continue
            try:
                got = ear.perform(step)
            except httpx.RequestError as error:
                step = steps.throw(error)
            else:
                step = steps.send(got)
    except StopIteration:
        return
    finally:
        ear.close()


class _Ear:
    """One open stream at a time."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._answer: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def perform(self, step: Call | Read | Pause) -> httpx.Response | bytes | None:
        if isinstance(step, Read):
            return next(self._chunks, None)
        self.close()
        if isinstance(step, Call):
            return self._open(step)
        time.sleep(step.seconds)
        return None

    def _open(self, call: Call) -> httpx.Response:
        self._answer = answer = self._http.send(self._http.build_request(**call.arguments()), stream=True)
        self._chunks = answer.iter_bytes()
        if not answer.is_success:
            answer.read()
        return answer

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()


async def listen_async(steps: Listening, http: httpx.AsyncClient) -> AsyncGenerator[Event, None]:
    """The events of ``steps``, heard with ``http``; errors of the transport are thrown into it."""
    ear = _AsyncEar(http)
    try:
        step = next(steps)
        while True:
            if isinstance(step, Event):
                yield step
                step = steps.send(None)
                continue
            try:
                got = await ear.perform(step)
            except httpx.RequestError as error:
                step = steps.throw(error)
            else:
                step = steps.send(got)
    except StopIteration:
        return
    finally:
        await ear.close()


class _AsyncEar:
    """As :class:`_Ear`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._answer: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, step: Call | Read | Pause) -> httpx.Response | bytes | None:
        if isinstance(step, Read):
            return await anext(self._chunks, None) if self._chunks is not None else None
        await self.close()
        if isinstance(step, Call):
            return await self._open(step)
        await asyncio.sleep(step.seconds)
        return None

    async def _open(self, call: Call) -> httpx.Response:
        self._answer = answer = await self._http.send(self._http.build_request(**call.arguments()), stream=True)
        self._chunks = aiter(answer.aiter_bytes())
        if not answer.is_success:
            await answer.aread()
        return answer

    async def close(self) -> None:
        if self._answer is not None:
            await self._answer.aclose()
