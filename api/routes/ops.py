"""``/ops/snapshot``: everything a dashboard shows, in one answer; the past of a day; the log of what operators did.

One read serves every caller for half a second, so a hundred open dashboards cost Redis as much as one. It changes
nothing but the activity log, which gets a line for each successful call of a route that only an admin may use.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from flask import current_app, g, request
from marshmallow import Schema, fields

from api.http.openapi import Answer, Operations, query
from api.http.parameters import whole
from api.routes.health import health, readings, totals, uptime
from api.routes.models import model_row
from api.routes.queue import worker_row
from api.services import app_settings, service
from api.version import VERSION
from api.views.resources import now, reply, request_resource, timestamp
from api.views.schemas import FindingSchema, LaneSchema, ModelSchema, RequestSchema, WorkerSchema
from tasks.errors import Unavailable
from tasks.inspect.health import judge
from tasks.inspect.history import DAY
from tasks.inspect.monitor import Monitor
from tasks.protocol.connections import prompt, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flask import Flask, Response

    from common.settings import Settings

log = logging.getLogger(__name__)
blueprint = Operations("dashboard", __name__, description="One answer for a dashboard")

#: Seconds for which one read is good enough.
FRESH = 0.5
HISTORY = 60  # minutes
LONGEST_STEP = 60  # minutes
RECENT = 50  # requests
ACTIVITY = 200  # lines kept


class Journal:
    """What operators did, newest first."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._key = f"{settings.key_prefix}api:activity"

    def write(self, what: str, who: str) -> None:
        """Add a line."""
        line = json.dumps({"at": time.time(), "what": what, "who": who})
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(self._key, line)
            pipe.ltrim(self._key, 0, ACTIVITY - 1)
            pipe.execute()

    def read(self) -> list[dict[str, Any]]:
        """The newest 50 lines."""
        with translated():
            lines = self._redis.lrange(self._key, 0, 49)
        return [json.loads(line) for line in lines]


class Board:
    """The latest snapshot of one process, read again by one thread at a time when it is older than ``FRESH``."""

    def __init__(self, settings: Settings) -> None:
        self.journal = Journal(settings)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._body: dict[str, Any] = {}

    def snapshot(self, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``read`` found at most ``FRESH`` seconds ago; errors of ``read`` pass through and are not kept."""
        with self._lock:
            if time.monotonic() - self._read_at >= FRESH:
                self._body = read()
                self._read_at = time.monotonic()
            return self._body


class WorkerNowSchema(WorkerSchema):
    """A live worker, and what only operators ask about."""

    chaos = fields.String(metadata={"description": "The fault it has been told to show"}, allow_none=True)


class ActivitySchema(Schema):
    """One thing that an operator did."""

    at = fields.String(required=True, metadata={"description": "When; RFC 3339, UTC", "format": "date-time"})
    what = fields.String(required=True, metadata={"description": "The route that was called"})
    who = fields.String(required=True, metadata={"description": "The address it was called from"})


class FleetEventSchema(Schema):
    """A worker came or went."""

    at = fields.String(required=True, metadata={"description": "When; RFC 3339, UTC", "format": "date-time"})
    event = fields.String(
        required=True,
        metadata={"enum": ["joined", "left", "lost"], "description": "left: said goodbye; lost: its lease ran out"},
    )
    worker = fields.String(required=True, metadata={"description": "Its node name"})
    model = fields.String(required=True)
    held = fields.Integer(required=True, metadata={"description": "Requests that a lost worker had in hand"})


class SnapshotSchema(Schema):
    """The whole system at one moment."""

    as_of = fields.String(required=True, metadata={"description": "When it was read", "format": "date-time"})
    version = fields.String(required=True)
    uptime = fields.Float(required=True)
    status = fields.String(required=True, metadata={"enum": ["healthy", "degraded", "unhealthy"]})
    reasons = fields.List(fields.String(), required=True)
    findings = fields.List(fields.Nested(FindingSchema), required=True)
    chaos_enabled = fields.Boolean(required=True)
    max_queue = fields.Integer(required=True)
    workers = fields.List(fields.Nested(WorkerNowSchema), required=True)
    lanes = fields.List(fields.Nested(LaneSchema), required=True)
    paused = fields.Dict(required=True, metadata={"description": "lane -> who paused it and when"})
    ledger = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    counters = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    latencies = fields.Dict(required=True)
    history = fields.List(fields.Dict(), required=True, metadata={"description": "A row per minute, oldest first"})
    requests = fields.List(fields.Nested(RequestSchema), required=True, metadata={"description": "Newest first"})
    dead_letters = fields.Integer(required=True)
    models = fields.List(fields.Nested(ModelSchema), required=True)
    activity = fields.List(fields.Nested(ActivitySchema), required=True)
    silent = fields.List(
        fields.Nested(WorkerNowSchema),
        required=True,
        metadata={"description": "Workers whose lease has run out and whose work nobody has taken over yet"},
    )
    fleet_events = fields.List(fields.Nested(FleetEventSchema), required=True, metadata={"description": "Newest first"})


class HistorySchema(Schema):
    """What was counted in the last minutes."""

    as_of = fields.String(required=True, metadata={"description": "When it was read", "format": "date-time"})
    step = fields.Integer(required=True, metadata={"description": "Minutes that a row tells of"})
    history = fields.List(fields.Dict(), required=True, metadata={"description": "A row per step, oldest first"})


@blueprint.operation(
    "GET", "/ops/history",
    (200, Answer("What was counted in the last minutes, up to a day", HistorySchema)),
    problems=("invalid_parameters", "broker_unavailable"),
    parameters=(
        query("minutes", "How far back", {"type": "integer", "minimum": 1, "maximum": DAY, "default": HISTORY}),
        query("step", "Minutes per row; the first row begins at a multiple of it",
              {"type": "integer", "minimum": 1, "maximum": LONGEST_STEP, "default": 1}),
    ),
    operation_id="history",
)  # fmt: skip
def get_history() -> Response:
    """Tell how many requests came and ended, and how long they took, minute by minute or in longer steps."""
    minutes = whole("minutes", request.args, HISTORY, DAY)
    step = whole("step", request.args, 1, LONGEST_STEP)
    return reply({"as_of": now(), "step": step, "history": service(Monitor).history(max(minutes, step), step)})


@blueprint.operation(
    "GET", "/ops/snapshot",
    (200, Answer("The system now", SnapshotSchema)),
    problems=("broker_unavailable",),
    parameters=(query("fresh", "1 does not accept a read of half a second ago", {"type": "string"}),),
    operation_id="snapshot",
)  # fmt: skip
def get_snapshot() -> Response:
    """Tell everything a dashboard shows, as it was at most half a second ago."""
    if request.args.get("fresh") == "1":
        return reply(_read())
    return reply(_board().snapshot(_read))


def _board() -> Board:
    """The board of this app; made at first use, because its connection does not survive a fork."""
    extensions = current_app.extensions
    if "inferlane-board" not in extensions:
        extensions["inferlane-board"] = Board(app_settings())
    board: Board = extensions["inferlane-board"]
    return board


def _read() -> dict[str, Any]:
    monitor, settings = service(Monitor), app_settings()
    seen = readings()
    return {
        "as_of": now(),
        "version": VERSION,
        "uptime": uptime(),
        **health(judge(seen, settings)),
        "chaos_enabled": settings.chaos_enabled,
        "max_queue": settings.max_queue,
        "workers": [worker_row(worker) for worker in seen.workers],
        "lanes": seen.lanes,
        "paused": monitor.paused(),
        "dead_letters": monitor.dead_letter_count(),
        "models": _models(settings, seen.workers),
        "activity": [{**line, "at": timestamp(line["at"])} for line in _board().journal.read()],
        "silent": [worker_row(worker) for worker in seen.silent],
        "fleet_events": [{**event, "at": timestamp(event["at"])} for event in monitor.fleet_events()],
        **_numbers(monitor),
    }


def _numbers(monitor: Monitor) -> dict[str, Any]:
    return {
        "ledger": dict(totals(monitor.ledger())),
        "counters": monitor.counters(),
        "latencies": monitor.latencies(),
        "history": monitor.history(HISTORY),
        "requests": [request_resource(record) for record in monitor.recent(limit=RECENT)[0]],
    }


def _models(settings: Settings, workers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = dict.fromkeys([*settings.models, *sorted(str(worker["model"]) for worker in workers)])
    return [model_row(name, workers) for name in names]


def register(app: Flask) -> None:
    """Write a line of the journal for each successful call of a route that needs the admin role."""
    app.after_request(_record)


def _record(response: Response) -> Response:
    if g.get("role") == "admin" and response.status_code < 400 and request.method not in {"GET", "HEAD", "OPTIONS"}:
        try:
            _board().journal.write(_told(), str(g.get("who", request.remote_addr)))
        except Unavailable as error:  # the order was obeyed: losing its line must not make it look refused
            log.warning("not in the activity log: %s %s: %s", request.method, request.path, error)
    return response


def _told() -> str:
    """The call in words: method and path, and the short members of the body that its route has read."""
    body: Mapping[str, Any] = g.get("body", {})
    said = {name: value for name, value in body.items() if isinstance(value, str | int | float)}
    return f"{request.method} {request.path} {json.dumps(said) if said else ''}"[:300].strip()
