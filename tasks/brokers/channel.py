"""The kombu transport for ``amqp://``: stock py-amqp, but a worker's lanes are taken by its puller.

Celery's control and event queues, and every process that owns no deliveries (Flower, the command line), get stock
behaviour. The transport's aliases are set in ``celeryconfig.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.transport import pyamqp

from tasks.brokers import puller as pulling
from tasks.lanes import PRIORITIES, Lane

if TYPE_CHECKING:
    from collections.abc import Callable


class LaneChannel(pyamqp.Channel):  # type: ignore[misc]
    """A channel on which lanes are not consumed but attached to the puller; tags that are text are the puller's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lanes: dict[str, str] = {}

    def basic_consume(
        self,
        queue: str = "",
        *args: Any,
        consumer_tag: str = "",
        callback: Callable[[Any], None] | None = None,
        **kw: Any,
    ) -> Any:
        """Consume a queue; a lane by way of the puller."""
        puller = pulling.current()
        if puller is None or callback is None or Lane.parse(queue).priority not in PRIORITIES:
            return super().basic_consume(queue, *args, consumer_tag=consumer_tag, callback=callback, **kw)
        self._lanes[consumer_tag] = queue
        puller.attach(queue, callback)
        return consumer_tag

    def basic_cancel(self, consumer_tag: str, *args: Any, **kw: Any) -> Any:
        """Consume no more."""
        puller, lane = pulling.current(), self._lanes.pop(consumer_tag, None)
        if puller is None or lane is None:
            return super().basic_cancel(consumer_tag, *args, **kw)
        puller.detach(lane)
        return consumer_tag

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool, *args: Any, **kw: Any) -> Any:
        """How many deliveries the process may hold; RabbitMQ applies it to what it sends on its own."""
        if (puller := pulling.current()) is not None:
            puller.credit = prefetch_count
        return super().basic_qos(prefetch_size, prefetch_count, a_global, *args, **kw)

    def basic_ack(self, delivery_tag: Any, *args: Any, **kw: Any) -> Any:
        """Acknowledge; a lane's delivery through the puller, whichever connection it came by."""
        if not isinstance(delivery_tag, str):
            return super().basic_ack(delivery_tag, *args, **kw)
        if (puller := pulling.current()) is not None:
            puller.settle(delivery_tag)
        return None

    def basic_reject(self, delivery_tag: Any, requeue: bool, *args: Any, **kw: Any) -> Any:
        """Refuse; with ``requeue`` a lane's delivery is given back by the lease thread."""
        if not isinstance(delivery_tag, str):
            return super().basic_reject(delivery_tag, requeue, *args, **kw)
        if (puller := pulling.current()) is not None:
            (puller.abandon if requeue else puller.settle)(delivery_tag)
        return None


class Connection(pyamqp.Connection):  # type: ignore[misc]
    """With those channels."""

    Channel = LaneChannel


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """``amqp://``."""

    Connection = Connection


class SSLTransport(pyamqp.SSLTransport):  # type: ignore[misc]
    """``amqps://``."""

    Connection = Connection
