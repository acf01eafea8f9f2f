"""The queues in RabbitMQ: what each is, declared wherever one turns out to be missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.brokers.letters import UNDELIVERABLE

#: How often RabbitMQ delivers a message before it gives up. Far above MAX_DELIVERIES: blame is found by the poison
#: rules, which know what ran; RabbitMQ only sees whose connection broke, and counts the bystanders too.
DELIVERY_LIMIT = 20

QUORUM = {"x-queue-type": "quorum"}

#: At-least-once dead lettering keeps a message until the other queue has confirmed it, and asks for this overflow.
LANE = QUORUM | {
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": UNDELIVERABLE,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def declare(channel: Any, queue: str) -> None:
    """Make a queue that can serve, with the one its undeliverable messages go to; fine when it is there."""
    channel.queue_declare(UNDELIVERABLE, durable=True, auto_delete=False, arguments=QUORUM)
    if queue != UNDELIVERABLE:
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=LANE)


def declare_all(channel: Any, queues: Iterable[str]) -> None:
    """Make several."""
    for queue in queues:
        declare(channel, queue)


def ready(channel: Any, queue: str) -> int:
    """How many messages wait in a queue, not counting those in a worker's hands."""
    return int(channel.queue_declare(queue, passive=True).message_count)
