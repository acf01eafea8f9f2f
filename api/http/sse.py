"""Server-sent events: the changes of a request or a batch as they happen, without polling by the caller.

The id of an event is its place in the history, so a reader that lost its connection sends ``Last-Event-ID`` and gets
what it missed. A stream ends with what it is about, or after ``MAX_WAIT`` seconds: an ``EventSource`` then comes back
by itself, so no thread is held longer than by a waiting caller, and the same number of places bounds both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response, request

from tasks.errors import TaskError

MEDIA_TYPE = "text/event-stream"
#: Of one event, as far as OpenAPI can say it.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}
#: Seconds between looks while nothing ends; an end is heard of at once.
STEP = 0.5
PING = 10.0
RECONNECT = 500  # milliseconds after which a reader should come back


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``place`` grows along the history."""

    place: int
    name: str
    data: Any

    def text(self) -> str:
        """As it goes over the wire."""
        data = json.dumps(self.data, separators=(",", ":"), allow_nan=False)
        return f"id: {self.place}\nevent: {self.name}\ndata: {data}\n\n"


#: ``look(seen, wait)``: the events after place ``seen``, waiting up to ``wait`` seconds for one; whether it is over.
Look = Callable[[int, float], tuple[Sequence[Event], bool]]


def last_seen() -> int:
    """The place of the last event the reader had, from ``Last-Event-ID``; -1 when it had none."""
    text = request.headers.get("Last-Event-ID", "")
    return int(text[:9]) if text.isascii() and text.isdigit() else -1


def stream(look: Look, longest: float) -> Response:
    """The events that ``look`` finds, for at most ``longest`` seconds; 204 when there will be none ever again.

    ``look`` is called once before the answer begins, so that its errors become problem documents.
    """
    seen = last_seen()
    events, over = look(seen, 0)
    if over and not events:
        return Response(status=204)
    lines = _lines(look, events, seen, over=over, ends=time.monotonic() + longest)
    response = Response(lines, mimetype=MEDIA_TYPE)
    response.headers.update({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    return response


def _lines(look: Look, events: Sequence[Event], seen: int, *, over: bool, ends: float) -> Iterator[str]:
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
            return  # Redis is away or the places are taken: the reader comes back and is told so
