"""``/workers/status``, ``/models``, ``/queue/status``, ``/metrics``: for people, dashboards and Prometheus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response, request

from api.http.openapi import Answer, Operations
from api.http.ownership import counted_owner
from api.services import app_settings, service
from api.views.metrics import render
from api.views.resources import now, reply
from api.views.system import model_rows, stats, totals, uptime, worker_row
from tasks.inspect.monitor import Monitor
from tasks.lanes import PRIORITIES
from tasks.protocol.usage import OUTCOMES, Row, total

blueprint = Operations("operations", __name__, description="Workers, models, lanes and metrics")

EXPOSITIONS = (
    Answer("Prometheus exposition", {"type": "string"}, media_type="text/plain"),
    Answer("OpenMetrics exposition", {"type": "string"}, media_type="application/openmetrics-text"),
)


@blueprint.operation("GET", "/workers/status", Answer("All live workers", "Workers"))
def workers_status() -> Response:
    """List the live workers, from their leases."""
    live, silent = service(Monitor).workers(), service(Monitor).silent()
    rows = [worker_row(worker) for worker in live] + [worker_row(worker, silent=True) for worker in silent]
    return reply({
        "workers": rows,
        "total_workers": len(live),
        "total_active": len(live),
        "healthy_workers": sum(worker["state"] != "draining" for worker in live),
        "total_requests": sum(int(row["processed"]) + int(row["failed"]) for row in rows),
        "timestamp": now(),
    })  # fmt: skip


@blueprint.operation("GET", "/models", Answer("All models", "Models"))
def list_models() -> Response:
    """List the configured models, as values of ``model_type``, and those of live workers."""
    return reply({"models": model_rows(app_settings().models, service(Monitor).workers())})


@blueprint.operation("GET", "/queue/status", Answer("The queue", "Queue"))
def queue_status() -> Response:
    """Get the backlog, by priority and by lane."""
    lanes = service(Monitor).lanes()
    depths = {name: sum(lane["depth"] for lane in lanes if lane["priority"] == name) for name in PRIORITIES}
    return reply({
        "size": sum(depths.values()),
        **{f"{name}_priority": depth for name, depth in depths.items()},
        "max_size": app_settings().max_queue,
        "lanes": lanes,
        "timestamp": now(),
    })  # fmt: skip


@blueprint.operation("GET", "/metrics", Answer("Counters and latencies", "Metrics"), *EXPOSITIONS, role="metrics")
def metrics() -> Response:
    """Get counters and latencies: JSON, or Prometheus text for ``Accept: text/plain`` and OpenMetrics.

    Requests and their latencies are the caller's own, an admin's call counts everybody's. Workers are the system's.
    """
    return prometheus() if _wants_text() else reply(_metrics(service(Monitor), counted_owner()))


def _wants_text() -> bool:
    """Whether a scraper's type is accepted best; version parameters defeat ``best_match``."""
    for value, _quality in request.accept_mimetypes:
        kind = value.partition(";")[0].strip()
        if kind in {"text/plain", "text/*", "application/openmetrics-text"}:
            return True
        if kind in {"application/json", "application/*", "*/*"}:
            return False
    return False


@blueprint.operation("GET", "/metrics/prometheus", *EXPOSITIONS, role="metrics")
def prometheus() -> Response:
    """Get counters and latencies as Prometheus text; requests are those of ``GET /metrics``, for a user today's."""
    text, content_type = render(service(Monitor), request.headers.get("Accept", ""), counted_owner())
    return Response(text, content_type=content_type)


def _metrics(monitor: Monitor, owner: str | None) -> dict[str, Any]:
    workers, window = len(monitor.workers()), monitor.window(app_settings().metrics_window, owner)
    ledger: Mapping[str, Mapping[str, int]]
    if owner is None:
        lanes, ledger, counters = monitor.lanes(), monitor.ledger(), monitor.counters()
        latencies, queued = monitor.latencies(), sum(lane["depth"] for lane in lanes)
        rate = _rate(lanes)
    else:
        (own,), rows = monitor.owners(owner), monitor.usage(owner)
        ledger = _by_model(rows)
        counters, latencies = {"refused": total(rows)["refused"]}, {"total": window} if window else {}
        queued, rate = own["queued"], own["rate_out"]
    seed = stats(workers, totals(ledger), window)
    good, bad = seed["requests_success"], seed["requests_failed"]
    return {
        **seed,
        **{f"latency_{name}": window.get(name) for name in ("p50", "p95", "p99")},
        "total_requests": seed["requests_total"],
        "successful_requests": good,
        "failed_requests": bad,
        "success_rate": good / (good + bad) if good + bad else None,
        "average_processing_time": _average(latencies.get("total", {})),
        "requests_per_second": rate,
        "queue_size": queued,
        "active_workers": workers,
        "uptime": uptime(),
        "timestamp": now(),
        "ledger": ledger,
        "counters": counters,
        "latencies": latencies,
    }


def _by_model(rows: Sequence[Row]) -> Mapping[str, Mapping[str, int]]:
    """Usage as a ledger of models instead of lanes."""
    ledger: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        ledger[row["model"]].update({"accepted": row["requests"]} | {name: row[name] for name in OUTCOMES})
    return ledger


def _average(stage: Mapping[str, Any]) -> float | None:
    """The mean if the histogram has a sum, otherwise the median."""
    value = stage.get("mean", stage.get("p50"))
    return None if value is None else float(value)


def _rate(lanes: Sequence[Mapping[str, Any]]) -> float | None:
    rates = [lane["rate_out"] for lane in lanes if lane["rate_out"] is not None]
    return sum(rates) if rates else None
