"""The rows of the tables: lanes, workers, models, requests. Pure functions from the API's rows to what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboard.text import NOTHING, duration, epoch, rate, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]
#: What the states of a request look like: a sign beside the colour.
SIGNS = {"queued": "◷", "running": "▶", "succeeded": "✓", "failed": "✕", "canceled": "⊘", "expired": "◔"}


def lanes(snapshot: Mapping[str, Any]) -> list[Row]:
    """One row per lane; ``quiet`` when nothing waits, runs or is paused there and no worker serves its model."""
    served = {worker["model"] for worker in snapshot["workers"]} | {"any"}
    return [_lane(lane, snapshot["paused"].get(lane["lane"]), served) for lane in snapshot["lanes"]]


def _lane(lane: Mapping[str, Any], pause: Mapping[str, Any] | None, served: set[str]) -> Row:
    idle = not (lane["depth"] or lane["running"] or lane["paused"])
    return {
        "lane": lane["lane"],
        "model": lane["model"],
        "priority": lane["priority"],
        "depth": lane["depth"],
        "running": lane["running"],
        "oldest": duration(lane["oldest_age"]),
        "rate_in": rate(lane["rate_in"]),
        "rate_out": rate(lane["rate_out"]),
        "eta": "until resumed" if lane["paused"] else duration(lane["eta"]),
        "paused": lane["paused"],
        "paused_by": f"{pause['by']}" if pause else "",
        "quiet": idle and lane["model"] not in served,
    }


def workers(snapshot: Mapping[str, Any], late_after: float) -> list[Row]:
    """One row per live worker; one whose heartbeat is older than ``late_after`` seconds is stale."""
    now = epoch(snapshot["as_of"]) or 0.0
    return [_worker(worker, now, late_after) for worker in snapshot["workers"]]


def _worker(worker: Mapping[str, Any], now: float, late_after: float) -> Row:
    age = max(0.0, now - (epoch(worker["last_heartbeat"]) or 0.0))
    return {
        "id": worker["id"],
        "model": worker["model"],
        "state": "stale" if age > late_after else worker["state"],
        "heartbeat": f"{duration(age)} ago",
        "in_flight": worker["in_flight"],
        "rss": size(worker["rss_bytes"]),
        "processed": worker["processed"],
        "failed": worker.get("failed", 0),
        "service": duration(worker["service_seconds"] or None),
        "runtime": f"{worker['runtime']} on {worker['device']}",
        "weights": worker["weights"],
        "random": worker["weights"] == "random",
        "chaos": worker.get("chaos") or "off",
        "draining": worker["state"] == "draining",
    }


def models(snapshot: Mapping[str, Any]) -> list[Row]:
    """One row per model."""
    return [
        {
            "name": model["name"],
            "available": model["available"],
            "workers": model["live_workers"],
            "version": model["version"] or NOTHING,
            "architecture": model["architecture"] or NOTHING,
            "input": _side(model["input_size"]),
            "labels": model["labels"] if model["labels"] is not None else NOTHING,
            "runtimes": ", ".join(model["runtimes"]) or NOTHING,
            "weights": ", ".join(model["weights"]) or NOTHING,
            "random": "random" in model["weights"],
        }
        for model in snapshot["models"]
    ]


def _side(pixels: Any) -> str:
    """``[224, 224]`` or ``224`` -> both sides in pixels."""
    if not pixels:
        return NOTHING
    height, width = pixels if isinstance(pixels, list) else (pixels, pixels)
    return f"{height} x {width} px"


def requests(listed: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per request, as the grid wants it: times in milliseconds, ``state`` with its sign in ``shown``."""
    return [_request(request) for request in listed]


def _request(request: Mapping[str, Any]) -> Row:
    timings, error = request["timings"], request["error"] or {}
    best = request["predictions"][0] if request["predictions"] else None
    return {
        "id": request["request_id"],
        "at": epoch(request["created_at"]),
        "state": request["state"],
        "shown": f"{SIGNS.get(request['state'], '?')} {request['state']}",
        "model": request["model"] or request["model_type"],
        "priority": request["priority"],
        "worker": request["worker_id"] or "",
        "attempts": request["attempts"],
        "queue": _milliseconds(timings.get("queue")),
        "infer": _milliseconds(timings.get("infer")),
        "total": _milliseconds(timings.get("total")),
        "answer": f"{best['class']} ({best['confidence']:.0%})" if best else error.get("code", ""),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
