"""``/health``, ``/livez``, ``/readyz``: for people, for a supervisor, for a load balancer.

Only ``/livez`` touches nothing; the others look at Redis, which answers or is given up within a second. None of them
asks a worker anything: what the workers are is in their leases.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from api.engine import engine
from api.openapi import Answer, Operations
from api.resources import now, reply
from api.schemas import HealthSchema, LivenessSchema, ReadinessSchema
from api.version import VERSION
from tasks.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flask import Response

blueprint = Operations("health", __name__, description="Is it well")

STARTED = time.monotonic()
#: A lane counts as behind when its oldest request has waited this many seconds.
BEHIND = 30.0


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
        engine().monitor.ping()
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

    ``unhealthy``: Redis does not answer, or is one that cannot be used. ``degraded``: requests are accepted, but a
    configured model has no worker that takes work, or a lane is far behind or paused. ``healthy``: none of that.
    """
    try:
        engine().monitor.ping()
        workers, lanes, ledger = engine().monitor.workers(), engine().monitor.lanes(), engine().monitor.ledger()
        window = engine().monitor.window(engine().settings.metrics_window)
    except Unavailable as error:
        return reply(_body("unhealthy", [str(error)], "down", _workers([]), {}, {}), 503, {"Retry-After": "1"})
    return reply(_body(*verdict(workers, lanes), "up", _workers(workers), totals(ledger), window))


def verdict(workers: Sequence[Mapping[str, Any]], lanes: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """``healthy`` or ``degraded``, and why; for when Redis answers."""
    reasons = _reasons(workers, lanes)
    return "degraded" if reasons else "healthy", reasons


def _reasons(workers: Sequence[Mapping[str, Any]], lanes: Sequence[Mapping[str, Any]]) -> list[str]:
    served = {worker["model"] for worker in workers if worker["state"] != "draining"}
    reasons = [f"no worker serves {model}" for model in engine().settings.models if model not in served]
    for lane in lanes:
        if lane["paused"]:
            reasons.append(f"lane {lane['lane']} is paused")
        elif (lane["oldest_age"] or 0) > BEHIND:
            reasons.append(f"lane {lane['lane']} is {lane['oldest_age']:.0f} s behind")
    return reasons


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


def _body(
    status: str,
    reasons: Sequence[str],
    broker: str,
    workers: Mapping[str, Any],
    total: Mapping[str, int],
    window: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "status": status,
        "reasons": list(reasons),
        "timestamp": now(),
        "version": VERSION,
        "uptime": uptime(),
        "broker": broker,
        "workers": workers,
        "queue_size": total.get("queued", 0),
        "total_requests": total.get("accepted", 0),
        "successful_requests": total.get("succeeded", 0),
        "failed_requests": total.get("failed", 0) + total.get("expired", 0),
        "stats": stats(workers["total"], total, window),
    }


def stats(workers: int, total: Mapping[str, int], window: Mapping[str, float]) -> dict[str, Any]:
    """The numbers of the first version of this API, under its names."""
    return {
        "workers_active": workers,
        "requests_total": total.get("accepted", 0),
        "requests_success": total.get("succeeded", 0),
        "requests_failed": total.get("failed", 0) + total.get("expired", 0),
        "avg_latency": window.get("mean"),
    }
