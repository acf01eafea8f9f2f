"""``/workers/status``, ``/queue/status``, ``/metrics``: numbers for people, dashboards and Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response, request

from api.http.openapi import Answer, Operations
from api.routes.health import stats, totals, uptime
from api.services import app_settings, service
from api.views import metrics
from api.views.resources import now, reply, timestamp
from api.views.schemas import MetricsSchema, QueueSchema, WorkersSchema
from tasks.inspect.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

blueprint = Operations("operations", __name__, description="Workers, lanes and numbers")

REDIS = ("broker_unavailable",)
TEXT: Mapping[str, Any] = {"type": "string"}


@blueprint.operation(
    "GET",
    "/workers/status",
    (200, Answer("All live workers", WorkersSchema)),
    problems=REDIS,
    operation_id="workersStatus",
)
def get_workers() -> Response:
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


def worker_row(worker: Mapping[str, Any], *, silent: bool = False) -> dict[str, Any]:
    """A worker as the contract has it; ``silent`` when its lease has run out."""
    shown = {name: value for name, value in worker.items() if name not in {"boot", "cpu_mask"}}
    return {
        **shown,
        "url": "",
        "status": "unhealthy" if silent else "healthy",
        "state": "silent" if silent else worker["state"],
        "load": min(1.0, load(worker)),
        "errors": worker["failed"],
        "avg_latency": worker.get("service_seconds") or None,
        "started_at": timestamp(worker.get("started_at")),
        "last_heartbeat": timestamp(worker["last_heartbeat"]),
    }


def load(worker: Mapping[str, Any]) -> float:
    """The share of a worker's places that are in use; above 1 when it holds chunks of a batch."""
    return round(int(worker["in_flight"]) / max(1, int(worker["concurrency"])), 4)


@blueprint.operation(
    "GET", "/queue/status", (200, Answer("The queue", QueueSchema)), problems=REDIS, operation_id="queueStatus"
)
def get_queue() -> Response:
    """Tell how many requests wait, by priority and by lane."""
    lanes = service(Monitor).lanes()
    by_priority = {
        f"{name}_priority": sum(lane["depth"] for lane in lanes if lane["priority"] == name)
        for name in ("high", "normal", "low")
    }
    sizes = {"size": sum(by_priority.values()), **by_priority, "max_size": app_settings().max_queue}
    return reply({**sizes, "lanes": lanes, "timestamp": now()})


@blueprint.operation(
    "GET", "/metrics",
    (200, Answer("Counters and latencies", MetricsSchema)),
    (200, Answer("Prometheus exposition", TEXT, media_type="text/plain")),
    (200, Answer("OpenMetrics exposition", TEXT, media_type="application/openmetrics-text")),
    problems=REDIS, operation_id="metrics", role="public",
)  # fmt: skip
def get_metrics() -> Response:
    """Counters and latencies: JSON, or Prometheus text for ``Accept: text/plain`` and OpenMetrics."""
    return _exposition() if _wants_text() else reply(_metrics())


def _wants_text() -> bool:
    """Whether the best of the accepted types is one of a scraper; their version parameters defeat ``best_match``."""
    for value, _quality in request.accept_mimetypes:
        kind = value.partition(";")[0].strip()
        if kind in {"text/plain", "text/*", "application/openmetrics-text"}:
            return True
        if kind in {"application/json", "application/*", "*/*"}:
            return False
    return False


@blueprint.operation(
    "GET", "/metrics/prometheus",
    (200, Answer("Prometheus exposition", TEXT, media_type="text/plain")),
    (200, Answer("OpenMetrics exposition", TEXT, media_type="application/openmetrics-text")),
    problems=REDIS, operation_id="prometheus", role="public",
)  # fmt: skip
def get_prometheus() -> Response:
    """Counters and latencies for a scraper, whatever it accepts."""
    return _exposition()


def _exposition() -> Response:
    text, content_type = metrics.render(service(Monitor), request.headers.get("Accept", ""))
    return Response(text, content_type=content_type)


def _metrics() -> dict[str, Any]:
    monitor = service(Monitor)
    ledger, lanes, latencies = monitor.ledger(), monitor.lanes(), monitor.latencies()
    total = totals(ledger)
    good, bad = total["succeeded"], total["failed"] + total["expired"]
    window = monitor.window(app_settings().metrics_window)
    return {
        **stats(len(monitor.workers()), total, window),
        **{f"latency_{name}": window.get(name) for name in ("p50", "p95", "p99")},
        "total_requests": total["accepted"],
        "successful_requests": good,
        "failed_requests": bad,
        "success_rate": good / (good + bad) if good + bad else None,
        "average_processing_time": _average(latencies.get("total", {})),
        "requests_per_second": _rate(lanes),
        "queue_size": sum(lane["depth"] for lane in lanes),
        "active_workers": len(monitor.workers()),
        "uptime": uptime(),
        "timestamp": now(),
        "ledger": ledger,
        "counters": monitor.counters(),
        "latencies": latencies,
    }


def _average(stage: Mapping[str, Any]) -> float | None:
    """The mean where the histogram keeps a sum, otherwise the median."""
    value = stage.get("mean", stage.get("p50"))
    return None if value is None else float(value)


def _rate(lanes: Sequence[Mapping[str, Any]]) -> float | None:
    rates = [lane["rate_out"] for lane in lanes if lane["rate_out"] is not None]
    return sum(rates) if rates else None
