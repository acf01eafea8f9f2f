"""What carries messages from producers to workers: Redis, or RabbitMQ when AMQP_URL names one.

Everything about requests (records, images, the ledger, leases, replies, admission) is in Redis whatever carries the
messages, and a message is only a reason to look at a record. So brokers differ in little, and all of it is behind
:class:`Broker`: :func:`of` is the only place that asks which one it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.brokers.base import Attendant, Broker, Carrier

if TYPE_CHECKING:
    from settings import Settings

__all__ = ["Attendant", "Broker", "Carrier", "of"]


def of(settings: Settings) -> Broker:
    """The broker that these settings choose; making it opens no connection."""
    if settings.amqp_url:
        from tasks.brokers.rabbitmq import RabbitMQ

        return RabbitMQ(settings)
    from tasks.brokers.redis_lists import RedisLists

    return RedisLists(settings)
