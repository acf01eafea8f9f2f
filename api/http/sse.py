"""Server-sent events: the changes of a request or batch, without polling.

An event's id is its place in the history, so a reader resumes with ``Last-Event-ID``. A stream ends with its request or
batch, or after ``MAX_WAIT`` seconds, when an ``EventSource`` reconnects: it holds a thread no longer than a waiting
caller, and MAX_WAITERS bounds both together.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response, request

from api.views.shapes import integer, shape, string
from tasks.errors import TaskError

MEDIA_TYPE = "text/event-stream"
#: Schema of an event, as far as OpenAPI can express it.
SCHEMA = shape(
    id=string(), event=string(), data=string(contentMediaType="application/json"), retry=integer(),
    optional=("id", "event", "data", "retry"),
)  # fmt: skip
#: Seconds between polls; an end is noticed at once.
STEP = 0.5
PING = 10.0
RECONNECT = 500  # milliseconds until a reader should reconnect


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event; ``place`` grows along the history."""

    place: int
    name: str
    data: Any

    def text(self) -> str:
        """The event on the wire."""
        data = json.dumps(self.data, separators=(",", ":"), allow_nan=False)
        return f"id: {self.place}\nevent: {self.name}\ndata: {data}\n\n"


#: ``look(seen, wait)``: the events after place ``seen``, waiting up to ``wait`` seconds for one; whether it is over.
Look = Callable[[int, float], tuple[Sequence[StreamEvent], bool]]


def last_seen() -> int:
    """The place in ``Last-Event-ID``; -1 without one."""
    text = request.headers.get("Last-Event-ID", "")
    return int(text[:9]) if text.isascii() and text.isdigit() else -1


def stream(look: Look, longest: float) -> Response:
    """The events of ``look``, for at most ``longest`` seconds; 204 if there will be no more.

    ``look`` runs once before the answer begins, so that its errors become problem documents.
    """
    seen = last_seen()
    events, over = look(seen, 0)
    if over and not events:
        return Response(status=204)
    lines = _lines(look, events, seen, over=over, ends=time.monotonic() + longest)
    response = Response(lines, mimetype=MEDIA_TYPE)
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    return response


def _lines(look: Look, events: Sequence[StreamEvent], seen: int, *, over: bool, ends: float) -> Iterator[str]:
    yield f"retry: {RECONNECT}\n\n"
    spoke = time.monotonic()
    while True:
        for event in events:
            yield event.text()
            seen, spoke = event.place, time.monotonic()
        if over or time.monotonic() > ends:
            return
        if time.monotonic() - spoke > PING:
            yield ": ping\n\n"
            spoke = time.monotonic()
        try:
            events, over = look(seen, STEP)
        except TaskError:
            return  # no Redis or too many waiters: the reader reconnects and gets the error
