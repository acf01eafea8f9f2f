"""One logic for both clients: a *flow* is a generator that yields what it wants done and gets back what came of it.

It yields :class:`Call` (send this, give me the response) and :class:`Pause` (let time pass). :func:`run` does that with
an ``httpx.Client``, :func:`run_async` with an ``httpx.AsyncClient``. Flows never sleep or send by themselves, so every
retry rule can be tested without a network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
CONNECT_TIMEOUT = 5.0  # seconds; a host that is there answers a SYN at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request.

    Attributes:
        path: below the API's root.
        params: the query.
        content: a raw body.
        json: a body to send as JSON.
        files: a multipart body: ``(field, (name, bytes, media type))`` each.
        form: the text fields of that multipart body.
        wait: seconds the API may take its time, because we asked it to (``Prefer: wait``).
        timeout: seconds without a byte after which the answer is given up.
        stream: whether its bytes are wanted as they come; :mod:`inferlane.listening` does that.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    json: Any = None
    files: Sequence[tuple[str, tuple[str, bytes, str]]] = ()
    form: Mapping[str, Any] = field(default_factory=dict)
    wait: float = 0.0
    timeout: float = 10.0
    stream: bool = False

    def arguments(self) -> dict[str, Any]:
        """It as arguments of ``httpx.Client.request``."""
        given: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        given["timeout"] = httpx.Timeout(self.timeout, connect=min(CONNECT_TIMEOUT, self.timeout), pool=None)
        if self.params:
            given["params"] = dict(self.params)
        if self.content is not None:
            given["content"] = self.content
        if self.json is not None:
            given["json"] = self.json
        if self.files:
            given |= {"files": list(self.files), "data": dict(self.form)}
        return given


@dataclass(frozen=True, slots=True)
class Pause:
    """Let this many seconds pass."""

    seconds: float


Flow = Generator[Call | Pause, httpx.Response | None, T]


def run(flow: Flow[T], http: httpx.Client) -> T:
    """What ``flow`` returns, its calls made with ``http``; errors of the transport are thrown into it."""
    try:
        step = next(flow)
        while True:
            try:
                answer = _perform(step, http)
            except httpx.RequestError as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _perform(step: Call | Pause, http: httpx.Client) -> httpx.Response | None:
    if isinstance(step, Call):
        return http.request(**step.arguments())
    time.sleep(step.seconds)
    return None


async def run_async(flow: Flow[T], http: httpx.AsyncClient) -> T:
    """What ``flow`` returns, its calls made with ``http``; errors of the transport are thrown into it."""
    try:
        step = next(flow)
        while True:
            try:
                answer = await _perform_async(step, http)
            except httpx.RequestError as error:
                step = flow.throw(error)
            else:
                step = flow.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def _perform_async(step: Call | Pause, http: httpx.AsyncClient) -> httpx.Response | None:
    if isinstance(step, Call):
        return await http.request(**step.arguments())
    await asyncio.sleep(step.seconds)
    return None
