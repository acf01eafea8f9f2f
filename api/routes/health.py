"""``/health``, ``/livez``, ``/readyz``: for people, for a supervisor, for a load balancer.

Only ``/livez`` touches nothing; the others look at Redis, which answers or is given up within a second. None of them
asks a worker anything: what the workers are is in their leases.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from api.http.openapi import Answer, Operations
from api.services import app_settings, service
from api.version import VERSION
from api.views.resources import now, reply
from api.views.schemas import HealthSchema, LivenessSchema, ReadinessSchema
from tasks.errors import Unavailable
from tasks.inspect.health import LATELY, Readings, judge, outage, status
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Response

    from tasks.inspect.health import Finding

blueprint = Operations("health", __name__, description="Is it well")

STARTED = time.monotonic()


def uptime() -> float:
    """Seconds since this process imported the API."""
    return round(time.monotonic() - STARTED, 3)


@blueprint.operation(
    "GET", "/livez", (200, Answer("The process answers", LivenessSchema)), operation_id="livez", role="public"
)
def get_livez() -> Response:
    """Tell that this process answers; looks at nothing else."""
    return reply({"status": "alive"})


@blueprint.operation(
    "GET", "/readyz",
    (200, Answer("Ready", ReadinessSchema)), (503, Answer("Not ready", ReadinessSchema)),
    operation_id="readyz", role="public",
)  # fmt: skip
def get_readyz() -> Response:
    """Tell whether requests can be accepted, with the reason for each condition.

    Workers are none: what is accepted without them is kept until there are some, and :func:`get_health` says so.
    """
    checks = _checks()
    ready = all(check["ok"] for check in checks)
    headers = {} if ready else {"Retry-After": "1"}
    return reply({"status": "ready" if ready else "not_ready", "checks": checks}, 200 if ready else 503, headers)


def _checks() -> list[dict[str, Any]]:
    try:
        service(Monitor).ping()
    except Unavailable as error:
        return [_check("broker", ok=False, detail=str(error))]
    return [_check("broker", ok=True, detail="Redis answers")]


def _check(name: str, *, ok: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "ok": ok, "detail": detail}


@blueprint.operation(
    "GET", "/health",
    (200, Answer("healthy or degraded", HealthSchema)), (503, Answer("unhealthy", HealthSchema)),
    operation_id="health", role="public",
)  # fmt: skip
def get_health() -> Response:
    """Sum the system up in one word.

    ``unhealthy``: Redis does not answer, takes no writes, or is one that cannot be used. ``degraded``: something else
    is wrong (:mod:`tasks.inspect.health`). ``healthy``: nothing is.
    """
    monitor = service(Monitor)
    try:
        monitor.ping()
        seen, ledger = readings(), monitor.ledger()
        window = monitor.window(app_settings().metrics_window)
    except Unavailable as error:
        return _reply([outage(str(error))], "down", [], {}, {})
    return _reply(judge(seen, app_settings()), "up", seen.workers, totals(ledger), window)


def readings() -> Readings:
    """What health is judged by.

    Raises:
        Unavailable: Redis does not answer.
    """
    monitor, gateway = service(Monitor), service(Gateway)
    workers = monitor.workers()
    return Readings(
        workers=workers, lanes=monitor.lanes(workers), silent=monitor.silent(), refusal=gateway.refusal(),
        image_bytes=gateway.image_bytes(), ends=monitor.ends(LATELY),
    )  # fmt: skip


def health(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings, the status that they amount to, and the same in words."""
    return {
        "status": status(findings),
        "reasons": [finding.detail for finding in findings],
        "findings": [asdict(finding) for finding in findings],
    }


def _workers(workers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    states = Counter(str(worker["state"]) for worker in workers)
    models = Counter(str(worker["model"]) for worker in workers)
    return {"total": len(workers), **{name: states[name] for name in ("idle", "busy", "draining")}, "models": models}


def totals(ledger: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    """The ledger summed over all lanes."""
    summed: Counter[str] = Counter()
    for states in ledger.values():
        summed.update(states)
    return summed


def _reply(
    findings: Sequence[Finding],
    broker: str,
    workers: Sequence[Mapping[str, Any]],
    total: Mapping[str, int],
    window: Mapping[str, float],
) -> Response:
    body = {
        **health(findings),
        "timestamp": now(),
        "version": VERSION,
        "uptime": uptime(),
        "broker": broker,
        "workers": _workers(workers),
        "queue_size": total.get("queued", 0),
        "total_requests": total.get("accepted", 0),
        "successful_requests": total.get("succeeded", 0),
        "failed_requests": total.get("failed", 0) + total.get("expired", 0),
        "stats": stats(len(workers), total, window),
    }
    return reply(body, 503, {"Retry-After": "1"}) if body["status"] == "unhealthy" else reply(body)


def stats(workers: int, total: Mapping[str, int], window: Mapping[str, float]) -> dict[str, Any]:
    """The numbers of the first version of this API, under its names."""
    return {
        "workers_active": workers,
        "requests_total": total.get("accepted", 0),
        "requests_success": total.get("succeeded", 0),
        "requests_failed": total.get("failed", 0) + total.get("expired", 0),
        "avg_latency": window.get("mean"),
    }
