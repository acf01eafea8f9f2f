"""``/admin``: operators' orders. Each takes effect with the workers' next heartbeat.

All need an administrator's key. Orders for unknown lanes and workers are refused, because no worker would read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from flask import Response, g, request

from api.features.doctor import examine, inspect
from api.features.scaling import MOST_WORKERS, Scaling
from api.http import declared
from api.http.auth import needs_key
from api.http.openapi import ROUTE, Answer, Operations
from api.http.problems import HttpProblem, wrong_value
from api.input.intake import order_body
from api.services import app_settings, service
from api.views.resources import now, reply
from tasks.control.orders import Controls
from tasks.inspect.monitor import Monitor
from tasks.worker.chaos import MODES

blueprint = Operations("administration", __name__, description="Operators' orders")
MAX_SECONDS = 3600.0
_ORDERED = Answer("The order was given", "Order")


def _order(
    path: str, answer: Answer = _ORDERED, body: Mapping[str, Any] | None = None, more: Sequence[str] = ()
) -> Callable[[ROUTE], ROUTE]:
    """Declare a route of an order."""
    problems = ["unknown_lane" if "<lane>" in path else "unknown_worker", *(declared.JSON_BODY if body else ()), *more]
    return blueprint.operation("POST", path, answer, problems=problems, body=body, role="admin")


CHAOS_BODY = declared.json_body(
    ["mode"], {"mode": "slow", "seconds": 0.5},
    mode={"enum": list(MODES), "description": "The fault; off ends it"},
    seconds={"type": "number", "minimum": 0, "maximum": MAX_SECONDS, "default": 1},
    rate={"type": "number", "minimum": 0, "maximum": 1, "default": 1},
)  # fmt: skip
SCALE_BODY = declared.json_body(
    ["workers"], {"workers": 2}, workers={"type": "integer", "minimum": 0, "maximum": MOST_WORKERS}
)  # fmt: skip
PURGE_BODY = declared.json_body(
    ["confirm"], {"confirm": "low"}, confirm={"type": "string", "description": "The name of the lane"}
)  # fmt: skip


@blueprint.operation("GET", "/admin/doctor", Answer("The results of the checks", "Diagnoses"), role="admin")
def doctor() -> Response:
    """Check the installation; answers even without Redis."""
    settings = app_settings()
    found = inspect(settings, asks_for_keys=needs_key(settings), proxied_from=_proxied_from())
    return reply({"checks": [asdict(check) for check in examine(found)], "timestamp": now()})


def _proxied_from() -> str:
    """The host name that a proxy forwards; empty without one."""
    if not any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via")):
        return ""
    host = request.headers.get("X-Forwarded-Host") or request.host
    return urlsplit(f"//{host}").hostname or host


@_order("/admin/lanes/<lane>/pause")
def pause_lane(lane: str) -> Response:
    """Pause a lane: workers take nothing from it; it still accepts requests."""
    _check_lane(lane)
    service(Controls).pause(lane, str(g.who))
    return _ordered(lane, "paused")


@_order("/admin/lanes/<lane>/resume")
def resume_lane(lane: str) -> Response:
    """Resume a paused lane."""
    _check_lane(lane)
    service(Controls).resume(lane)
    return _ordered(lane, "resumed")


@_order("/admin/lanes/<lane>/purge", Answer("The queued requests are canceled", "Purge"), PURGE_BODY)
def purge_lane(lane: str) -> Response:
    """Cancel a lane's queued requests; the body repeats the lane's name as a confirmation.

    Requests held by workers and pending retries go on.
    """
    _check_lane(lane)
    if order_body(PURGE_BODY).get("confirm") != lane:
        raise wrong_value("confirm", f"must be {lane}")
    return reply({"target": lane, "order": "purge", "canceled": service(Controls).purge(lane, str(g.who))})


@_order("/admin/workers/<worker_id>/restart")
def restart_worker(worker_id: str) -> Response:
    """Restart a worker: it finishes its requests and exits; its supervisor starts it again."""
    for worker in _live_workers(worker_id):
        service(Controls).restart(worker_id, str(worker["boot"]))
    return _ordered(worker_id, "restart")


@_order("/admin/workers/<worker_id>/drain")
def drain_worker(worker_id: str) -> Response:
    """Drain a worker: it finishes its requests and takes no more."""
    _live_workers(worker_id)
    service(Controls).drain(worker_id)
    return _ordered(worker_id, "drain")


@_order("/admin/workers/<worker_id>/resume")
def resume_worker(worker_id: str) -> Response:
    """Resume a draining worker."""
    _live_workers(worker_id)
    service(Controls).undrain(worker_id)
    return _ordered(worker_id, "resume")


@_order("/admin/workers/<worker_id>/chaos", body=CHAOS_BODY, more=["chaos_disabled"])
def set_chaos(worker_id: str) -> Response:
    """Inject a fault into a worker; only with CHAOS_ENABLED."""
    if not app_settings().chaos_enabled:
        raise HttpProblem("chaos_disabled", "Fault injection needs CHAOS_ENABLED=1.")
    body = order_body(CHAOS_BODY)
    mode = body.get("mode")
    if mode not in MODES:
        raise wrong_value("mode", "must be one of " + ", ".join(MODES))
    seconds, rate = _number(body, "seconds", MAX_SECONDS), _number(body, "rate", 1.0)
    _live_workers(worker_id)
    service(Controls).chaos(worker_id, mode, seconds=seconds, rate=rate)
    return _ordered(worker_id, f"chaos {mode}")


@blueprint.operation(
    "POST", "/admin/models/<model>/scale", _ORDERED, body=SCALE_BODY, role="admin",
    problems=["unknown_model", "not_supervised", "scale_failed", "refused", *declared.JSON_BODY],
)  # fmt: skip
def scale_model(model: str) -> Response:
    """Scale the workers of a model on the API's host, where `make start` runs both; answers when they run."""
    workers = order_body(SCALE_BODY).get("workers")
    if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= MOST_WORKERS:
        raise wrong_value("workers", f"must be a whole number from 0 to {MOST_WORKERS}")
    within = service(Scaling).order(model, workers)
    return reply({"target": model, "order": f"scale {workers}", "effective_within": within})


def _number(body: dict[str, Any], name: str, most: float) -> float:
    value = body.get(name, 1)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise wrong_value(name, f"must be a number from 0 to {most:g}")
    return float(value)


def _check_lane(lane: str) -> None:
    if lane not in {row["lane"] for row in service(Monitor).lanes()}:
        raise HttpProblem("unknown_lane", f"There is no lane {lane}.")


def _live_workers(worker_id: str) -> list[dict[str, Any]]:
    """The live workers of this name; a problem if there is none."""
    found = [row for row in service(Monitor).workers() if row["id"] == worker_id]
    if not found:
        raise HttpProblem("unknown_worker", f"There is no live worker {worker_id}.")
    return found


def _ordered(target: str, order: str) -> Response:
    return reply({"target": target, "order": order, "effective_within": app_settings().lease_renew})
