"""The Celery message of one delivery: how it is written for the broker, and how a rescuer reads and marks it.

A message carries request ids only (claim check); the images and the truth about each request stay in the record.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kombu.transport.virtual import Channel

if TYPE_CHECKING:
    from celery import Celery

TASK = "inferlane.infer"

#: The header that says how many requests there are in a message when that is more than one.
SIZE = "requests"


def seal(
    app: Celery, lane: str, ids: Sequence[str], *, retries: int = 0, fresh: bool = False, **headers: str | int
) -> str:
    """The message, as kombu's Redis transport stores it, of one task over these requests.

    Protocol 2 as ``app.amqp`` writes it, with the body left readable (``utf-8``) instead of base64. The correlation id
    is the task's. A retry and a ``fresh`` message of a request have their own, so that neither is taken for the message
    before it. ``headers`` are added to Celery's own; the task finds them in its ``request``.
    """
    task_id = ids[0] if len(ids) == 1 and not retries and not fresh else str(uuid4())
    embed, always = _always(app)
    if len(ids) > 1:
        headers[SIZE] = len(ids)
    return json.dumps(
        {
            "body": json.dumps([[list(ids)], {}, embed], separators=(",", ":")),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**always, "id": task_id, "root_id": task_id, "retries": retries, **headers},
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": lane},
                "priority": 0,
                "body_encoding": "utf-8",
                "delivery_tag": task_id,
            },
        },
        separators=(",", ":"),
    )


@cache
def _always(app: Celery) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Celery writes in the body and the headers of every message of this process, whatever it is about."""
    message = app.amqp.as_task_v2("", TASK, args=([],), argsrepr="", kwargsrepr="", ignore_result=True)
    return message.body[2], {name: value for name, value in message.headers.items() if value not in (None, "", {})}


def requests_in(message: dict[str, Any]) -> list[str]:
    """The request ids a stored message (parsed) carries; none when it is another kind of task.

    Celery's own retries are base64 inside, what :func:`seal` wrote is readable.
    """
    if message.get("headers", {}).get("task") != TASK:
        return []
    args, _, _ = json.loads(_body(message))
    return [str(request_id) for request_id in args[0]]


def size(message: dict[str, Any]) -> int:
    """How many requests a stored message (parsed) carries; one, if it does not say."""
    return int(message.get("headers", {}).get(SIZE, 1))


def _body(message: dict[str, Any]) -> str | bytes:
    encoding = message["properties"].get("body_encoding")
    if encoding and encoding.lower() != "utf-8":
        return bytes(Channel.codecs[encoding].decode(message["body"]))
    return str(message["body"])


def mark_redelivered(message: dict[str, Any]) -> str:
    """The message as text, flagged as delivered before and with its delivery count raised."""
    headers = message.setdefault("headers", {})
    headers["redelivered"] = True
    headers["x-redeliveries"] = int(headers.get("x-redeliveries", 0)) + 1
    message["properties"].setdefault("delivery_info", {})["redelivered"] = True
    return json.dumps(message, separators=(",", ":"))
