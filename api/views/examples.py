"""Documented bodies: the request bodies of the image routes, and examples that tests run as they are printed."""

from __future__ import annotations

from typing import Any

from api.input import intake
from api.input.images import MEDIA_TYPES

#: The smallest PNG there is: one grey pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


def _described(description: str, **shape: Any) -> dict[str, Any]:
    return {"description": description, **shape}


_NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200}
_PARAMETERS: dict[str, Any] = {
    "model_type": _described("A model of /models, or any", default="any", **_NAME),
    "priority": {"enum": ["high", "normal", "low"], "default": "normal"},
    "top_k": _described("How many classes", type="integer", minimum=1, maximum=intake.MAX_TOP_K, default=5),
    "deadline": _described(
        "Seconds from now after which the answer is not wanted",
        type="number", exclusiveMinimum=0, maximum=intake.MAX_DEADLINE,
    ),
}  # fmt: skip
_CALLBACK = _described(
    "Where to post the end of it; needs webhooks to be on", type="string", minLength=1, maxLength=intake.MAX_URL
)
_IDENTITY: dict[str, Any] = {
    "request_id": _described(
        "Your own id; the same id with the same image and parameters is the same request",
        type="string", pattern=intake.ID_PATTERN,
    ),
    "callback_url": _CALLBACK,
}  # fmt: skip
_DATA = {"type": "string", "minLength": 1, "description": "The image as base64 or as a data URL"}
_CUSTOM_ID = _described("Your own name for it, given back", **_NAME)
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}


def _or_null(properties: dict[str, Any]) -> dict[str, Any]:
    """The same parameters where null means not given, as it does in JSON."""
    return {name: {"anyOf": [shape, {"type": "null"}]} for name, shape in properties.items()}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_ITEM = _object(["data"], data=_DATA, **_or_null({"custom_id": _CUSTOM_ID, **_PARAMETERS}))
_ANY_ITEM = {"anyOf": [_ITEM, {"description": "Anything else fails alone"}]}

INFERENCE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _object(["data"], data=_DATA, **_or_null({"custom_id": _CUSTOM_ID, **_PARAMETERS, **_IDENTITY})),
            "example": {"data": PIXEL, "model_type": "any", "priority": "normal", "top_k": 3},
        },
        "multipart/form-data": {
            "schema": _object(["image"], image=_FILE, custom_id=_CUSTOM_ID, **_PARAMETERS, **_IDENTITY)
        },
        **{media_type: {"schema": _FILE} for media_type in (*MEDIA_TYPES, "application/octet-stream")},
    },
}

BATCH_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _object(
                ["requests"],
                requests={"type": "array", "minItems": 1, "items": _ANY_ITEM},
                **_or_null({**_PARAMETERS, "callback_url": _CALLBACK}),
            ),
            "example": {"requests": [{"custom_id": "first", "data": PIXEL}, {"custom_id": "second", "data": PIXEL}]},
        },
        "multipart/form-data": {
            "schema": _object(
                ["image"], image={"type": "array", "minItems": 1, "items": _FILE}, **_PARAMETERS, callback_url=_CALLBACK
            )
        },
    },
}

_URLS = {
    "self": "/inference/3f1c",
    "cancel": "/inference/3f1c/cancel",
    "events": "/inference/3f1c/events",
}
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
