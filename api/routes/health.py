"""``/health`` for people, ``/livez`` for supervisors, ``/readyz`` for load balancers.

``/livez`` checks nothing; the others read Redis, for a second at most. None asks a worker: their leases are in Redis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response

from api.http.openapi import Answer, Operations
from api.services import app_settings, service
from api.version import VERSION
from api.views import system
from api.views.resources import now, reply
from tasks.errors import BrokerUnavailable
from tasks.inspect.health import Readings, judge, outage
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway

blueprint = Operations("health", __name__, description="Health checks")


@blueprint.operation("GET", "/livez", Answer("The process answers", "Liveness"), role="public")
def livez() -> Response:
    """Check that this process answers."""
    return reply({"status": "alive"})


@blueprint.operation(
    "GET", "/readyz", Answer("Ready", "Readiness"), Answer("Not ready", "Readiness", status=503), role="public"
)
def readyz() -> Response:
    """Check whether requests can be accepted, with a reason for each condition.

    Neither workers nor the payload store are a condition: requests are kept until there are workers, and answers can be
    read without the store. ``/health`` reports both.
    """
    try:
        service(Monitor).ping()
    except BrokerUnavailable as error:
        body = {"status": "not_ready", "checks": [{"name": "broker", "ok": False, "detail": str(error)}]}
        return reply(body, 503)
    return reply({"status": "ready", "checks": [{"name": "broker", "ok": True, "detail": "Redis answers"}]})


@blueprint.operation(
    "GET", "/health", Answer("healthy or degraded", "Health"), Answer("unhealthy", "Health", status=503), role="public"
)
def health() -> Response:
    """Get the system's health.

    ``unhealthy``: Redis does not answer, accepts no writes, or is unsupported. ``degraded``: there are other findings
    (:mod:`tasks.inspect.health`). ``healthy``: there are none.
    """
    monitor, settings = service(Monitor), app_settings()
    try:
        monitor.ping()
        seen, broker = system.readings(monitor, service(Gateway)), "up"
        total, window = system.totals(monitor.ledger()), monitor.window(settings.metrics_window)
        findings = judge(seen, settings)
    except BrokerUnavailable as error:
        seen, broker, total, window = Readings(workers=(), lanes=()), "down", Counter(), {}
        findings = [outage(str(error))]
    stats = system.stats(len(seen.workers), total, window)
    body = {
        **system.health(findings),
        "timestamp": now(),
        "version": VERSION,
        "uptime": system.uptime(),
        "broker": broker,
        "workers": _workers(seen.workers),
        "queue_size": total["queued"],
        "total_requests": stats["requests_total"],
        "successful_requests": stats["requests_success"],
        "failed_requests": stats["requests_failed"],
        "stats": stats,
    }
    return reply(body, 503 if body["status"] == "unhealthy" else 200)


def _workers(workers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    states = Counter(str(worker["state"]) for worker in workers)
    models = Counter(str(worker["model"]) for worker in workers)
    return {"total": len(workers), **{name: states[name] for name in ("idle", "busy", "draining")}, "models": models}
