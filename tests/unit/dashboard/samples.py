"""A snapshot as the API answers it, for tests to change."""

from __future__ import annotations

from typing import Any

START = 1_800_000_000  # 2027-01-15T08:00:00Z
AS_OF = "2027-01-15T08:59:30.000Z"
NOW = START + 59 * 60 + 30


def stage(count: int = 0, seconds: float = 0.0) -> dict[str, float]:
    return {"count": count, "mean": seconds, "p50": seconds, "p95": 2 * seconds, "p99": 4 * seconds}


def minute(number: int, **events: Any) -> dict[str, Any]:
    """The row of minute ``number`` after START; ``total``, ``queue``, ``infer`` may be given as seconds."""
    counts = {name: events.get(name, 0) for name in ("accepted", "succeeded", "failed", "canceled", "expired")}
    seconds = {name: events.get(name, 0.0) for name in ("queue", "decode", "infer", "total")}
    stages = {name: stage(counts["succeeded"] if value else 0, value) for name, value in seconds.items()}
    return {"at": START + 60 * number, **counts, **stages}


def worker(name: str = "resnet18-1@host", **changes: Any) -> dict[str, Any]:
    row = {
        "id": name, "model": "resnet18", "version": "1", "weights": "torchvision:IMAGENET1K_V1",
        "runtime": "onnxruntime", "device": "cpu", "host": "host", "pid": 4, "state": "idle", "in_flight": 0,
        "processed": 7, "failed": 1, "service_seconds": 0.021, "rss_bytes": 150_000_000, "chaos": None,
        "last_heartbeat": "2027-01-15T08:59:29.600Z", "url": "", "status": "healthy", "load": 0.0,
    }  # fmt: skip
    return row | changes


def owner(name: str = "anonymous", **changes: Any) -> dict[str, Any]:
    row = {
        "owner": name, "weight": 1.0, "queued": 0, "rate_in": 1.0, "rate_out": 0.5, "errors": None, "share": None,
        "quota": None,
        "today": dict.fromkeys(("requests", "succeeded", "failed", "canceled", "expired", "refused"), 0),
    }  # fmt: skip
    return row | changes


def lane(name: str = "normal.resnet18", **changes: Any) -> dict[str, Any]:
    priority, _, model = name.partition(".")
    row = {
        "lane": name, "priority": priority, "model": model or "any", "depth": 0, "running": 0, "oldest_age": None,
        "rate_in": 0.5, "rate_out": 0.25, "eta": None, "paused": False,
    }  # fmt: skip
    return row | changes


def request(state: str = "succeeded", **changes: Any) -> dict[str, Any]:
    row = {
        "request_id": "id-1", "owner": "anonymous", "state": state, "status": state, "model_type": "any",
        "model": "resnet18",
        "priority": "normal", "lane": "normal", "weights": "random", "worker_id": "resnet18-1@host", "attempts": 1,
        "predictions": [{"class": "tabby", "index": 281, "confidence": 0.62}], "error": None,
        "created_at": "2027-01-15T08:59:00.000Z", "timings": {"queue": 0.0042, "infer": 0.03, "total": 0.05},
        "timeline": [{"at": "2027-01-15T08:59:00.000Z", "event": "accepted"}],
    }  # fmt: skip
    return row | changes


def snapshot(**changes: Any) -> dict[str, Any]:
    body = {
        "as_of": AS_OF, "version": "1", "uptime": 65.0, "status": "healthy", "findings": [], "chaos_enabled": False,
        "max_queue": 100, "workers": [worker()], "lanes": [lane("normal"), lane()], "paused": {},
        "ledger": {"accepted": 9, "succeeded": 6, "failed": 1, "expired": 0, "canceled": 1, "queued": 1, "running": 0},
        "counters": {"rescued": 2}, "latencies": {}, "history": [minute(number) for number in range(60)],
        "requests": [request()], "dead_letters": 0,
        "models": [
            {"name": "resnet18", "available": True, "live_workers": 1, "version": "1", "architecture": "resnet18",
             "input_size": [224, 224], "labels": 1000, "runtimes": ["onnxruntime"], "weights": ["random"]},
        ],
        "silent": [], "fleet_events": [], "owners": [owner()], "replicas": {},
        "activity": [{"at": AS_OF, "what": "POST /admin/lanes/normal/pause", "who": "admin"}],
    }  # fmt: skip
    return body | changes
