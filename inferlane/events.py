"""Server-sent events of a request or a batch.

The id of an event is its place in the history. A connection that breaks, or that the API closes to free its thread, is
opened again with ``Last-Event-ID``, so that no event is repeated or missed.
"""

import json
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

from inferlane.connection import Call, Connection
from inferlane.errors import Timeout, UnexpectedAnswer
from inferlane.exchange import FINAL, exchange
from inferlane.operations import Kind, about
from inferlane.retries import CallLimits

MEDIA_TYPE = "text/event-stream"
MOST_EMPTY = 3  # connections in a row without a byte: a proxy buffers them
TOO_MANY = "too_many_waiters"
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


@dataclass(slots=True)
class Parser:
    """Turns the bytes of streams into events; :meth:`begin` drops the partial event of a broken stream.

    Follows the WHATWG HTML standard, "Interpreting an event stream".

    Attributes:
        last: the id of the last event.
        retry: seconds after which a reader should come back.
        silent: whether this stream has had no byte.
    """

    last: str = ""
    retry: float = 0.5
    silent: bool = True
    _rest: bytes = b""
    _name: str = ""
    _id: str = ""
    _data: list[str] = field(default_factory=list)

    def begin(self, path: str) -> Call:
        """Begin a new stream; the call that opens it after the last event."""
        self.silent, self._rest, self._name, self._id, self._data = True, b"", "", self.last, []
        headers = {"Accept": f"{MEDIA_TYPE}, application/problem+json;q=0.9", "Cache-Control": "no-store"}
        resume = {"Last-Event-ID": self.last} if self.last else {}
        return Call("GET", path, {"headers": headers | resume}, stream=True)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that ``chunk`` completes.

        Raises:
            UnexpectedAnswer: an event whose data is not JSON.
        """
        self.silent = False
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


async def follow(
    connection: Connection, kind: Kind[Any], resource_id: str, limits: CallLimits
) -> AsyncGenerator[Event, None]:
    """The events of a request or a batch up to the last, over as many connections as it takes.

    ``limits.until`` is checked whenever bytes arrive, and at the latest after 15 silent seconds, which mean a broken
    connection; the API sends a ping every ten.

    Raises:
        Timeout: the last event has not come in time; the request or batch goes on.
        UnexpectedAnswer: the answer is no event stream, or a proxy buffers it.
        Unavailable: with the code ``too_many_waiters``: the API has no place for another waiting caller.
        ClientError: as any call.
    """
    path, parser, empty = kind.path(resource_id, "/events"), Parser(), 0
    with about(kind, resource_id):
        while empty < MOST_EMPTY:
            call = parser.begin(path)
            answer = await exchange(connection, lambda: call, limits, final=FINAL | {TOO_MANY})  # noqa: B023 - used at once
            async with aclosing(_read(connection, parser, answer, limits)) as found:
                async for event in found:
                    yield event
                    if event.name == "end":
                        return
            if answer.status_code == 204:
                return
            if limits.left() <= 0:
                raise Timeout(f"{kind.name} {resource_id} has not ended in time")
            empty = empty + 1 if parser.silent else 0
            await connection.pause(limits.retries.pause(0, parser.retry))
        raise UnexpectedAnswer(f"{path} opens and ends without a byte; a proxy on the way may buffer events")


async def _read(
    connection: Connection, parser: Parser, answer: httpx.Response, limits: CallLimits
) -> AsyncGenerator[Event, None]:
    """The events of one answer, until it ends or breaks or the time is over."""
    try:
        if answer.status_code != 204 and not answer.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
            raise UnexpectedAnswer(f"{answer.url} answered {answer.status_code} without a stream of events")
        async for chunk in connection.chunks(answer):
            if limits.left() <= 0:
                return
            for event in parser.feed(chunk):
                yield event
    except httpx.RequestError:
        return
    finally:
        await connection.hang_up(answer)
