"""``/ops``: everything a dashboard shows, in one answer; and the history of the last day."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Response, g, request

from api.features.audit import Audit
from api.features.scaling import Scaling
from api.http.openapi import Answer, Operations, query
from api.http.ownership import counted_owner
from api.http.parameters import whole
from api.services import app_settings, service
from api.version import VERSION
from api.views import system
from api.views.resources import now, reply, request_resource, timestamp
from common.settings import Settings
from tasks.inspect.health import judge
from tasks.inspect.history import DAY
from tasks.inspect.monitor import Monitor
from tasks.inspect.search import SearchFilter
from tasks.producer.gateway import Gateway
from tasks.protocol.owners import ANONYMOUS
from tasks.protocol.usage import OUTCOMES, total

blueprint = Operations("dashboard", __name__, description="One answer for a dashboard")

#: Seconds for which a read is cached: a hundred open dashboards cost Redis as much as one.
FRESH = 0.5
HISTORY = 60  # minutes
LONGEST_STEP = 60  # minutes
RECENT = 50  # requests


class SnapshotCache:
    """One process's latest snapshot per owner, refreshed by one thread at a time after ``FRESH`` seconds."""

    def __init__(self, _settings: Settings) -> None:
        self._lock = threading.Lock()
        self._bodies: dict[str | None, tuple[float, dict[str, Any]]] = {}

    def body(self, owner: str | None, read: Callable[[str | None], dict[str, Any]]) -> dict[str, Any]:
        """A result of ``read`` for this owner, at most ``FRESH`` seconds old; errors are not cached."""
        with self._lock:
            read_at, body = self._bodies.get(owner, (float("-inf"), {}))
            if time.monotonic() - read_at >= FRESH:
                body, now = read(owner), time.monotonic()
                kept = {name: each for name, each in self._bodies.items() if now - each[0] < FRESH}
                self._bodies = {**kept, owner: (now, body)}
            return body


@blueprint.operation(
    "GET", "/ops/history",
    Answer("The counts of the last minutes, up to a day", "History"),
    problems=["invalid_parameters"],
    parameters=(
        query("minutes", "How far back", {"type": "integer", "minimum": 1, "maximum": DAY, "default": HISTORY}),
        query("step", "Minutes per row; the first row begins at a multiple of it",
              {"type": "integer", "minimum": 1, "maximum": LONGEST_STEP, "default": 1}),
    ),
)  # fmt: skip
def history() -> Response:
    """Get the history: requests accepted and ended, and their latency, per minute or longer step.

    It counts the caller's own requests, for an admin and without keys everybody's.
    """
    minutes = whole("minutes", request.args, HISTORY, DAY)
    step = whole("step", request.args, 1, LONGEST_STEP)
    rows = service(Monitor).history(max(minutes, step), step, counted_owner())
    return reply({"as_of": now(), "step": step, "history": rows})


@blueprint.operation(
    "GET", "/ops/snapshot", Answer("The system now", "Snapshot"),
    parameters=[query("fresh", "1 reads anew instead of up to half a second old", {"type": "string"})],
)  # fmt: skip
def snapshot() -> Response:
    """Get everything a dashboard shows, at most half a second old.

    Requests, their numbers and dead letters are the caller's own, an admin's call shows everybody's; the orders in
    ``activity`` are for admins. Lanes, workers and latencies are the whole system's.
    """
    owner = _own()
    return reply(_read(owner) if request.args.get("fresh") == "1" else service(SnapshotCache).body(owner, _read))


def _own() -> str | None:
    """The owner whose requests the caller sees; None for everybody's."""
    return None if g.sees_all else str(g.owner)


def _named(owner: str | None) -> str | None:
    """The owner to count by; None for the anonymous one: without keys, all requests are its own."""
    return None if owner == ANONYMOUS else owner


def _read(owner: str | None) -> dict[str, Any]:
    monitor, settings = service(Monitor), app_settings()
    seen = system.readings(monitor, service(Gateway))
    return {
        "as_of": now(),
        "version": VERSION,
        "uptime": system.uptime(),
        **system.health(judge(seen, settings)),
        "chaos_enabled": settings.chaos_enabled,
        "max_queue": settings.max_queue,
        "workers": [system.worker_row(worker) for worker in seen.workers],
        "lanes": seen.lanes,
        "paused": monitor.paused(),
        "dead_letters": monitor.dead_letter_count(_named(owner)),
        "replicas": service(Scaling).replicas(),
        "models": system.model_rows(settings.models, seen.workers),
        "activity": _dated(service(Audit).orders() if owner in (None, ANONYMOUS) else ()),
        "silent": [system.worker_row(worker) for worker in seen.silent],
        "fleet_events": _dated(monitor.fleet_events()),
        **_numbers(monitor, owner),
        "requests": [request_resource(record) for record in monitor.recent(SearchFilter(owner=owner), limit=RECENT)[0]],
    }


def _dated(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "at": timestamp(row["at"])} for row in rows]


def _numbers(monitor: Monitor, owner: str | None) -> dict[str, Any]:
    owners, whose = [{**row, "quota": system.quota(row["quota"])} for row in monitor.owners(owner)], _named(owner)
    ledger, counters = dict(system.totals(monitor.ledger())), monitor.counters()
    if whose is not None:
        used = total(monitor.usage(whose))
        ledger = {name: used[name] for name in OUTCOMES} | {"queued": owners[0]["queued"]}
        counters = {"refused": used["refused"]}
    return {
        "owners": owners,
        "ledger": ledger,
        "counters": counters,
        "latencies": monitor.latencies(),
        "history": monitor.history(HISTORY, 1, whose),
    }
