"""The request resource: a record of :mod:`tasks.protocol.requests` as JSON.

Times are RFC 3339 in UTC, durations are seconds. ``status`` is the state (``queued running succeeded failed canceled
expired``), except in synchronous answers (the 200 of ``POST /inference`` and the items in the 200 of ``POST
/batch_inference``): there it is ``success`` or ``failed``, as in the first version of this API. ``state`` is the state
in both.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from flask import Response

from tasks.protocol.owners import owner_of, public_id
from tasks.protocol.requests import Request, State

#: One encoder, because ``json.dumps`` creates one per call for other separators than its default.
_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def timestamp(epoch: float | None) -> str | None:
    """RFC 3339 with milliseconds, in UTC, from epoch seconds."""
    if epoch is None:
        return None
    seconds, microseconds = divmod(round(epoch * 1_000_000), 1_000_000)
    return f"{_second(seconds)}.{microseconds // 1000:03d}Z"


@lru_cache(maxsize=256)
def _second(epoch: int) -> str:
    """Cached: a request has nine timestamps, close together."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def now() -> str:
    """The current :func:`timestamp`."""
    return str(timestamp(datetime.now(UTC).timestamp()))


def urls(request_id: str) -> dict[str, str]:
    """Links of a request, relative to the API's root."""
    path = f"/inference/{public_id(request_id)}"
    return {"self": path, "cancel": f"{path}/cancel", "events": f"{path}/events"}


def request_resource(
    record: Request, *, queue_position: int | None = None, eta: float | None = None, seed: bool = False
) -> dict[str, Any]:
    """The request resource; ``seed`` for the statuses of the first version."""
    return {
        "request_id": public_id(record.id),
        "owner": owner_of(record.id),
        "status": seed_status(record.state) if seed else record.state.value,
        "state": record.state.value,
        "model_type": record.model_type,
        "model": record.model,
        "priority": record.priority,
        "lane": record.lane,
        "weights": record.weights,
        "runtime": record.runtime,
        "precision": record.precision,
        "predictions": record.predictions or [],
        "error": record.error,
        "worker_id": record.worker_id,
        "processing_time": record.timings.get("total"),
        "latency_ms": latency_ms(record),
        "retries": retries(record),
        "timestamp": timestamp(record.completed_at or record.created_at),
        "created_at": timestamp(record.created_at),
        "started_at": timestamp(record.started_at),
        "completed_at": timestamp(record.completed_at),
        "expires_at": timestamp(record.expires_at),
        "deadline": timestamp(record.deadline),
        "queue_position": queue_position,
        "eta": eta,
        "attempts": record.attempts,
        "timings": dict(record.timings),
        "batch_id": record.batch_id,
        "custom_id": record.custom_id,
        "trace_id": trace_id(record.traceparent),
        "cached": False,
        "timeline": [_event(entry) for entry in record.timeline],
        "urls": urls(record.id),
    }


def _event(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A timeline entry with a readable time and without boot ids."""
    worker = {"worker": str(entry["worker"]).partition("/")[0]} if "worker" in entry else {}
    return {**entry, **worker, "at": timestamp(entry["at"])}


def seed_status(state: State) -> str:
    """``success`` or ``failed`` for an ended request, else its state."""
    if not state.terminal:
        return state.value
    return "success" if state is State.SUCCEEDED else "failed"


def latency_ms(record: Request) -> float | None:
    """Milliseconds from acceptance to the end; None before the end."""
    total = record.timings.get("total")
    return None if total is None else round(1000 * total, 3)


def retries(record: Request) -> int:
    """Attempts after the first."""
    return max(0, record.attempts - 1)


def trace_id(traceparent: str | None) -> str | None:
    """The trace id inside a W3C ``traceparent``."""
    return traceparent.split("-")[1] if traceparent else None


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer, compact because predictions are most of it; after a 503 a caller may come back in a second."""
    more = {"Retry-After": "1"} if status == 503 else {}
    return Response(_compact(body), status, {**more, **(headers or {})}, mimetype="application/json")


def with_etag(response: Response, if_none_match: Any) -> Response:
    """``response`` with a strong ETag of its body, or a 304 for a matching ``If-None-Match``.

    Compared weakly (RFC 9110, 13.1.2), because a compressing proxy weakens ETags.
    """
    response.set_etag(hashlib.blake2b(response.get_data(), digest_size=12).hexdigest())
    response.headers["Cache-Control"] = "no-cache"
    if if_none_match.contains_weak(response.get_etag()[0]):
        response.status_code = 304
        response.set_data(b"")
        del response.headers["Content-Type"]
    return response


def timing_headers(record: Request) -> dict[str, str]:
    """``Server-Timing``, in milliseconds, for a request that has run; nothing for one that has not."""
    durations = ", ".join(f"{stage};dur={seconds * 1000:.1f}" for stage, seconds in record.timings.items())
    return {"Server-Timing": durations} if durations else {}
