"""Letters: messages on their way through RabbitMQ, and the two forms they have.

Redis keeps the message as kombu's Redis transport would (see :mod:`tasks.envelope`), with the queue it is meant for in
front. RabbitMQ gets body, headers and properties apart, and the lane in a header: what is given back travels through a
queue of another name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import amqp

from tasks.lanes import ANY, Lane

LANE_HEADER = "x-lane"
COUNT = "x-redeliveries"
#: What is given back is looked at first: ``first.resnet18``, ``first``.
FIRST = "first"
#: Where RabbitMQ puts what it has delivered too often.
UNDELIVERABLE = "undeliverable"


@dataclass(frozen=True)
class Letter:
    """A message and the queue it is meant for; ``entry`` names it in the outbox."""

    entry: str
    queue: str
    message: str

    @cached_property
    def parsed(self) -> dict[str, Any]:
        """The message."""
        found: dict[str, Any] = json.loads(self.message)
        return found

    @property
    def lane(self) -> str:
        """The lane that it belongs to, whatever queue it travels through."""
        return str(self.parsed["properties"]["delivery_info"]["routing_key"])


def opened(entry: bytes, stored: bytes) -> Letter:
    """A letter as the outbox keeps it."""
    queue, _, message = stored.decode().partition("\n")
    return Letter(entry.decode(), queue, message)


def entry_of(message: dict[str, Any]) -> str:
    """What names a message (parsed) in the outbox."""
    return str(message["properties"]["correlation_id"])


def express(lane: str) -> str:
    """The queue for what was given back to this lane."""
    return Lane(FIRST, ANY).name if Lane.parse(lane).model == ANY else f"{FIRST}.{Lane.parse(lane).model}"


def to_amqp(letter: Letter) -> amqp.Message:
    """The letter as it is published."""
    message = letter.parsed
    return amqp.Message(
        message["body"],
        content_type=message["content-type"],
        content_encoding=message["content-encoding"],
        application_headers={**message["headers"], LANE_HEADER: letter.lane},
        correlation_id=message["properties"]["correlation_id"],
        delivery_mode=2,
    )


def headers_of(raw: amqp.Message) -> dict[str, Any]:
    """The headers of a delivery; RabbitMQ adds its own, all of which begin with ``x-``."""
    headers: dict[str, Any] = raw.properties.get("application_headers") or {}
    return headers


def lane_of(raw: amqp.Message, queue: str) -> str:
    """The lane that a delivery belongs to."""
    return str(headers_of(raw).get(LANE_HEADER, queue))


def from_amqp(raw: amqp.Message, lane: str) -> dict[str, Any]:
    """A delivery in the form in which it is held, rescued and given back."""
    kept = {name: value for name, value in headers_of(raw).items() if name == COUNT or not name.startswith("x-")}
    body = raw.body if isinstance(raw.body, str) else bytes(raw.body).decode()
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": raw.properties.get("content_type", "application/json"),
        "headers": kept,
        "properties": {
            "correlation_id": raw.properties.get("correlation_id", ""),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": lane},
            "priority": 0,
            "body_encoding": "utf-8",
        },
    }
