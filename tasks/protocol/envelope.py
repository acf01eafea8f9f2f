"""The Celery message of one delivery: how it is written for the broker, and how a rescuer reads and marks it.

A message carries request ids only (claim check); the images and the truth about each request stay in the record.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from kombu.transport.virtual import Channel

TASK = "inferlane.infer"
#: JSON without white space; ``json.dumps`` would make an encoder at each call.
compact = json.JSONEncoder(separators=(",", ":")).encode
#: The header with the number of requests in a message, if more than one.
SIZE = "requests"


def seal(lane: str, ids: Sequence[str], *, retries: int = 0, fresh: bool = False, **headers: str | int) -> str:
    """The message, as kombu's Redis transport stores it, of one task over these requests.

    Celery's protocol 2 without members that have their default, because every byte is written twice. The task id of one
    request is its id; a retry and a ``fresh`` message get a new one, so that neither is taken for the message before
    it. ``headers`` are added to Celery's; the task finds them in its ``request``.
    """
    task_id = ids[0] if len(ids) == 1 and not retries and not fresh else str(uuid4())
    if len(ids) > 1:
        headers[SIZE] = len(ids)
    message = {
        "body": compact([[list(ids)], {}, {}]),  # in front: Lua finds the first id there
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": TASK, "id": task_id, "retries": retries, **headers},
        "properties": {"delivery_tag": task_id, "delivery_info": {"exchange": "", "routing_key": lane}},
    }
    return compact(message)


def requests_in(message: dict[str, Any]) -> list[str]:
    """The request ids in a stored message (parsed), written by :func:`seal` or by Celery; none for another task."""
    if message.get("headers", {}).get("task") != TASK:
        return []
    body, encoding = message["body"], (message["properties"].get("body_encoding") or "utf-8").lower()
    args, _, _ = json.loads(body if encoding == "utf-8" else Channel.codecs[encoding].decode(body))
    return [str(request_id) for request_id in args[0]]


def unpack(stored: bytes) -> tuple[str, str, list[str]]:
    """Lane, message and request ids of a stored delivery or retry."""
    lane, _, message = stored.decode().partition("\n")
    return lane, message, requests_in(json.loads(message))


def size(message: dict[str, Any]) -> int:
    """How many requests are in a stored message (parsed)."""
    return int(message.get("headers", {}).get(SIZE, 1))


def mark_redelivered(message: dict[str, Any]) -> str:
    """The message as text, flagged as delivered before and with its delivery count raised."""
    headers = message.setdefault("headers", {})
    headers["redelivered"] = True
    headers["x-redeliveries"] = int(headers.get("x-redeliveries", 0)) + 1
    message["properties"].setdefault("delivery_info", {})["redelivered"] = True
    return compact(message)
