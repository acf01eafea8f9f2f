"""Declarations that several routes share in the OpenAPI document: problems, parameters and answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from api.http import sse
from api.http.openapi import Answer, header

ONE_REQUEST = ("unknown_request", "purged_request")
REFUSALS = ("lane_full", "deadline_hopeless", "too_many_open", "quota_exceeded")
JSON_BODY = ("empty_body", "invalid_json", "body_too_large", "unsupported_media_type", "invalid_parameters")
IMAGE_BODY = (
    "invalid_json", "invalid_base64", "invalid_multipart", "bad_request", "empty_body", "body_too_large",
    "image_too_large", "unsupported_media_type", "invalid_parameters", "empty_image", "unsupported_image",
    "truncated_image", "too_many_pixels", "side_too_long", "too_many_scans", "decode_too_large", "unknown_model",
    "idempotency_conflict",
)  # fmt: skip

PREFER = header("Prefer", "`wait=n` waits up to n seconds for the end, `respond-async` does not wait (RFC 7240)")
IF_NONE_MATCH = header("If-None-Match", "ETags of cached answers")
LAST_EVENT_ID = header("Last-Event-ID", "Id of the last event received")
LIMIT = {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}

ETAG = {"ETag": "Strong"}
NOT_MODIFIED = Answer("Unchanged since the ETag in If-None-Match", headers=ETAG, status=304)
EVENTS = (
    Answer("Server-sent events", sse.SCHEMA, media_type=sse.MEDIA_TYPE),
    Answer("The stream is complete: nothing more to send", status=204),
)


def json_body(required: Collection[str], example: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """The request body of an order: a JSON object with these members."""
    schema = {"type": "object", "required": [*required], "properties": properties}
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}
