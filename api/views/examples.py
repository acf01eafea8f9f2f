"""Documented answers to ``POST /inference``; a test holds them against their own schemas."""

from __future__ import annotations

from typing import Any

_URLS = {"self": "/inference/3f1c", "cancel": "/inference/3f1c/cancel", "events": "/inference/3f1c/events"}
ACCEPTED: dict[str, Any] = {
    "request_id": "3f1c",
    "status": "queued",
    "state": "queued",
    "model_type": "any",
    "priority": "normal",
    "timestamp": "2026-01-05T12:00:00.000Z",
    "urls": _URLS,
}
ANSWERED: dict[str, Any] = {
    **ACCEPTED,
    "owner": "anonymous",
    "status": "success",
    "state": "succeeded",
    "model": "resnet18",
    "lane": "normal",
    "weights": "torchvision:IMAGENET1K_V1",
    "predictions": [{"class": "tabby", "index": 281, "confidence": 0.62}],
    "error": None,
    "worker_id": "resnet18-1@host",
    "processing_time": 0.041,
    "latency_ms": 41.0,
    "retries": 0,
    "created_at": "2026-01-05T12:00:00.000Z",
    "started_at": "2026-01-05T12:00:00.004Z",
    "completed_at": "2026-01-05T12:00:00.041Z",
    "expires_at": "2026-01-05T13:00:00.041Z",
    "deadline": None,
    "queue_position": None,
    "eta": None,
    "attempts": 1,
    "timings": {"queue": 0.004, "decode": 0.006, "infer": 0.028, "total": 0.041},
    "batch_id": None,
    "custom_id": None,
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "cached": False,
    "timeline": [
        {"at": "2026-01-05T12:00:00.000Z", "event": "accepted"},
        {"at": "2026-01-05T12:00:00.041Z", "event": "succeeded"},
    ],
}
