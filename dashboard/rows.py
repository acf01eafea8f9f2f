"""The rows of the tables: lanes, workers, models, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboard.formatting import NOTHING, count, duration, epoch, milliseconds, percent, rate, size

Row = dict[str, Any]
#: The sign beside each state of a request.
SIGNS = {"queued": "◷", "running": "▶", "succeeded": "✓", "failed": "✕", "canceled": "⊘", "expired": "◔"}

#: The owner of requests without a key.
ANONYMOUS = "anonymous"
#: The counts of a line of usage, in this order.
USAGE = ("succeeded", "failed", "expired", "canceled", "refused")


def _picked(source: Mapping[str, Any], *names: str) -> Row:
    return {name: source[name] for name in names}


def lanes(snapshot: Mapping[str, Any]) -> list[Row]:
    """One row per lane; ``quiet`` when it is empty, not paused, and no worker serves its model."""
    served = {worker["model"] for worker in snapshot["workers"]} | {"any"}
    return [
        {
            **_picked(lane, "lane", "priority", "model", "depth", "running", "paused"),
            "oldest": duration(lane["oldest_age"]),
            "rate_in": rate(lane["rate_in"]),
            "rate_out": rate(lane["rate_out"]),
            "eta": "until resumed" if lane["paused"] else duration(lane["eta"]),
            "quiet": not (lane["depth"] or lane["running"] or lane["paused"] or lane["model"] in served),
        }
        for lane in snapshot["lanes"]
    ]


def workers(snapshot: Mapping[str, Any], late_after: float) -> list[Row]:
    """One row per live worker; one whose heartbeat is older than ``late_after`` seconds is stale."""
    now = epoch(snapshot["as_of"]) or 0.0
    return [_worker(worker, now, late_after) for worker in snapshot["workers"]]


def _worker(worker: Mapping[str, Any], now: float, late_after: float) -> Row:
    age = max(0.0, now - (epoch(worker["last_heartbeat"]) or 0.0))
    return {
        **_picked(worker, "id", "model", "in_flight", "processed", "weights"),
        "state": "stale" if age > late_after else worker["state"],
        "heartbeat": "now" if age < 1 else f"{duration(age)} ago",
        "rss": size(worker["rss_bytes"]),
        "failed": worker.get("failed", 0),
        "service": duration(worker["service_seconds"] or None),
        "runtime": " ".join(filter(None, (worker["runtime"], worker.get("precision"), "on", worker["device"]))),
        "random": worker["weights"] == "random",
        "chaos": worker.get("chaos") or "off",
        "draining": worker["state"] == "draining",
    }


def owners(snapshot: Mapping[str, Any]) -> list[Row]:
    """One row per owner with a name or with requests; none where all are the anonymous'."""
    found = [owner for owner in snapshot["owners"] if owner["owner"] != ANONYMOUS or _active(owner)]
    if all(owner["owner"] == ANONYMOUS for owner in found):
        return []
    return [
        {
            **_picked(owner, "owner", "weight", "queued"),
            "rate": rate(owner["rate_out"]),
            "share": percent(owner["share"]),
            "errors": percent(owner["errors"]),
            "today": owner["today"]["requests"],
            "left": "{left:,} of {limit:,}".format(**owner["quota"]) if owner["quota"] else "",
        }
        for owner in found
    ]


def _active(owner: Mapping[str, Any]) -> bool:
    return bool(owner["queued"] or owner["rate_in"] or owner["rate_out"] or owner["today"]["requests"])


def usage(found: Sequence[Mapping[str, Any]], today: str) -> list[list[str]]:
    """The lines of the table of an owner's usage: today, all of it, then each day and model."""
    groups = (("Today", [row for row in found if row["day"] == today]), ("35 days", found))
    days = ((f"{row['day']} {row['model']}", [row]) for row in found)
    return [[name, *_used(some)] for name, some in (*groups, *days)]


def quota(found: Mapping[str, Any] | None) -> Row | None:
    """An owner's monthly quota: the share that is used, and what is left in words."""
    if found is None:
        return None
    left, limit = f"{found['left']:,}", count(found["limit"], "image")
    ends = f"{datetime.fromisoformat(found['resets']):%-d %B}"
    return {"used": min(1.0, found["used"] / found["limit"]), "text": f"{left} of {limit} left until {ends} (UTC)."}


def _used(some: Sequence[Mapping[str, Any]]) -> list[str]:
    total = {name: sum(row[name] for row in some) for name in (*USAGE, "bytes", "compute_seconds")}
    return [*(f"{total[name]:,}" for name in USAGE), size(total["bytes"]), duration(total["compute_seconds"])]


def models(snapshot: Mapping[str, Any]) -> list[Row]:
    """One row per model."""
    return [
        {
            **_picked(model, "name", "available"),
            "workers": model["live_workers"],
            "here": snapshot["replicas"].get(model["name"]),
            "version": model["version"] or NOTHING,
            "architecture": model["architecture"] or NOTHING,
            "input": _sides(model["input_size"]),
            "labels": NOTHING if model["labels"] is None else model["labels"],
            "runtimes": ", ".join(model["runtimes"]) or NOTHING,
            "weights": ", ".join(model["weights"]) or NOTHING,
            "random": "random" in model["weights"],
        }
        for model in snapshot["models"]
    ]


def _sides(pixels: Any) -> str:
    """``[224, 224]`` or ``224`` -> both sides in pixels."""
    if not pixels:
        return NOTHING
    height, width = pixels if isinstance(pixels, list) else (pixels, pixels)
    return f"{height} x {width} px"


def request_row(request: Mapping[str, Any]) -> Row:
    """The row of a request in the grid; times are milliseconds."""
    best = request["predictions"][0] if request["predictions"] else None
    return {
        **_picked(request, "priority", "attempts", "owner"),
        "id": request["request_id"],
        "key": f"{request['owner']}/{request['request_id']}",
        "at": epoch(request["created_at"]),
        "shown": f"{SIGNS.get(request['state'], '?')} {request['state']}",
        "open": request["state"] in {"queued", "running"},
        "letter": any(event["event"] == "dead_lettered" for event in request["timeline"][-1:]),
        "model": request["model"] or request["model_type"],
        "worker": request["worker_id"] or "",
        **{stage: milliseconds(request["timings"].get(stage)) for stage in ("queue", "infer", "total")},
        "answer": f"{best['class']} ({best['confidence']:.0%})" if best else (request["error"] or {}).get("code", ""),
    }
