"""Server-sent events: what happens to a request or a batch, told the moment it happens.

The id of an event is its place in the history. A stream that breaks, or that the API ends to free its thread, is opened
again with ``Last-Event-ID``, so nothing is told twice and nothing is missed. The logic is a generator like the flows of
:mod:`inferlane.flow`, driven by :mod:`inferlane.listening`; it never opens a connection itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from inferlane import batches, operations
from inferlane.errors import Timeout, UnexpectedAnswer
from inferlane.exchange import FINAL, Limits, exchange
from inferlane.flow import Call, Pause
from inferlane.operations import about

MEDIA_TYPE = "text/event-stream"
FRUITLESS = 3  # streams in a row without a byte of content that mean that somebody on the way keeps them
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        id: its place in the history.
        name: accepted, started, retry, rescued, ... for a request, progress for a batch; the last one is ``end``.
        data: what happened; of ``end`` and ``progress`` the whole request or batch.
    """

    id: str
    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class Read:
    """Give me the next bytes of the answer to the last call; None at its end."""


Listening = Generator[Call | Read | Pause | Event, httpx.Response | bytes | None, None]


@dataclass(slots=True)
class Parser:
    """Turns the bytes of streams into events; what a broken stream leaves half told is dropped with :meth:`reset`.

    Follows the WHATWG HTML standard, "Interpreting an event stream".

    Attributes:
        last: the id of the last event.
        retry: seconds after which a reader should come back.
    """

    last: str = ""
    retry: float = 0.5
    _rest: bytes = b""
    _name: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """Begin a new stream."""
        self._rest, self._name, self._id, self._data = b"", "", self.last, []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that ``chunk`` completes.

        Raises:
            UnexpectedAnswer: an event whose data is not JSON.
        """
        text = self._rest + chunk
        held = text[-1:] == b"\r"  # half of a CR LF, perhaps
        *lines, rest = _LINE_END.split(text[:-1] if held else text)
        self._rest = rest + b"\r" if held else rest
        for line in lines:
            if line:
                self._field(line.decode("utf-8", "replace"))
            else:
                yield from self._dispatch()

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000

    def _dispatch(self) -> Iterator[Event]:
        self.last = self._id
        text, name = "\n".join(self._data), self._name
        self._data, self._name = [], ""
        if not text:
            return
        try:
            yield Event(self.last, name or "message", json.loads(text))
        except ValueError:
            raise UnexpectedAnswer(f"an event that is no JSON: {text[:200]!r}") from None


def of_request(request_id: str, limits: Limits) -> Listening:
    """What has happened to a request and what happens, up to its end."""
    with about(request_id):
        yield from follow(f"{operations.path_of(request_id)}/events", f"request {request_id}", limits)


def of_batch(batch_id: str, limits: Limits) -> Listening:
    """The batch whenever more of its items have ended."""
    yield from follow(f"{batches.path_of(batch_id)}/events", f"batch {batch_id}", limits)


def follow(path: str, name: str, limits: Limits) -> Listening:
    """The events at ``path`` up to the last, over as many streams as it takes.

    Args:
        path: where the API tells them.
        name: what it is about, for the error.
        limits: ``until`` is looked at whenever bytes arrive, and at the latest after 15 silent seconds, which mean a
            broken stream; the API sends a ping every ten.

    Raises:
        Timeout: the last event has not come in time; what it is about goes on.
        UnexpectedAnswer: whoever answers sends no events, or keeps them.
        Unavailable: with the code ``too_many_waiters``, since the API holds as many callers as it may.
        ClientError: as any call.
    """
    parser, fruitless = Parser(), 0
    while fruitless < FRUITLESS:
        parser.reset()
        answer = yield from exchange(lambda: _opening(path, parser.last), limits, final=FINAL | {"too_many_waiters"})
        if answer.status_code == 204:
            return
        _check(answer)
        heard, over = yield from _listen(parser, name, limits)
        if over:
            return
        fruitless = 0 if heard else fruitless + 1
        yield Pause(limits.retries.pause(0, parser.retry))
    raise UnexpectedAnswer(f"{path} opens and ends without a word; something on the way keeps events")


def _opening(path: str, last: str) -> Call:
    headers = {"Accept": f"{MEDIA_TYPE}, application/problem+json;q=0.9", "Cache-Control": "no-store"}
    resume = {"Last-Event-ID": last} if last else {}
    return Call(method="GET", path=path, headers=headers | resume, stream=True)


def _check(answer: httpx.Response) -> None:
    if not answer.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
        raise UnexpectedAnswer(f"{answer.url} answered {answer.status_code} without a stream of events")


def _listen(
    parser: Parser, name: str, limits: Limits
) -> Generator[Read | Event, httpx.Response | bytes | None, tuple[bool, bool]]:
    """Yield the events of one stream; whether it told anything, and whether the last event of all was among it."""
    heard = False
    while True:
        try:
            chunk = yield Read()
        except httpx.RequestError:
            chunk = None
        if limits.left() <= 0:
            raise Timeout(f"{name} has not ended in time")
        if not isinstance(chunk, bytes):
            return heard, False
        heard = True
        for event in parser.feed(chunk):
            yield event
            if event.name == "end":
                return heard, True
