"""The way from the API into the queue: one Gateway, one Monitor and one Store per process, made at first use.

They hold sockets, which do not survive a fork, so nothing is made before the server has forked.
The routes reach it through :func:`engine`; tests hand their own to the app as :class:`Connections`.
"""

from __future__ import annotations

import atexit
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

from flask import current_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.features.store import Store
    from api.features.webhooks.outbox import Outbox
    from common.settings import Settings
    from tasks.control.dead_letters import DeadLetters
    from tasks.control.orders import Controls
    from tasks.inspect.monitor import Monitor
    from tasks.inspect.redis_info import Examiner
    from tasks.producer.gateway import Gateway

EXTENSION = "inferlane"


@dataclass(frozen=True, slots=True)
class Connections:
    """How to make the objects that talk to Redis; each gets the settings."""

    gateway: Callable[[Settings], Gateway]
    monitor: Callable[[Settings], Monitor]
    store: Callable[[Settings], Store]
    controls: Callable[[Settings], Controls]
    dead_letters: Callable[[Settings], DeadLetters]
    outbox: Callable[[Settings], Outbox]
    examiner: Callable[[Settings], Examiner]


def real_connections(settings: Settings) -> Connections:
    """Connections to the Redis that the settings name."""
    from api.features.store import Store
    from api.features.webhooks.outbox import Outbox
    from tasks.control.dead_letters import DeadLetters
    from tasks.control.orders import Controls
    from tasks.inspect.monitor import Monitor
    from tasks.inspect.redis_info import Examiner
    from tasks.producer.gateway import Gateway

    gateway: Callable[[Settings], Gateway] = Gateway
    if settings.otel_enabled:
        from api.http.tracing import TracedGateway

        gateway = TracedGateway
    return Connections(gateway, Monitor, Store, Controls, DeadLetters, Outbox, Examiner)


class Engine:
    """What the routes of one app in one process share.

    Attributes:
        settings: the settings of this process.
    """

    def __init__(self, settings: Settings, connections: Connections) -> None:
        self.settings = settings
        self._connections = connections
        self._lock = threading.RLock()

    @property
    def gateway(self) -> Gateway:
        """The producer of this process."""
        with self._lock:
            return self._gateway

    @property
    def monitor(self) -> Monitor:
        """The reader of this process."""
        with self._lock:
            return self._monitor

    @property
    def store(self) -> Store:
        """What the API itself keeps: batches, budgets, cached answers."""
        with self._lock:
            return self._store

    @property
    def controls(self) -> Controls:
        """What an operator gives orders through."""
        with self._lock:
            return self._controls

    @property
    def dead_letters(self) -> DeadLetters:
        """The requests that were given up."""
        with self._lock:
            return self._dead_letters

    @property
    def outbox(self) -> Outbox:
        """The webhooks to be sent; the first use starts the threads that send them."""
        with self._lock:
            return self._outbox

    @property
    def examiner(self) -> Examiner:
        """What looks at how Redis is set up."""
        with self._lock:
            return self._examiner

    @cached_property
    def _examiner(self) -> Examiner:
        return self._connections.examiner(self.settings)

    @cached_property
    def _outbox(self) -> Outbox:
        from api.features.webhooks.courier import Courier

        outbox = self._connections.outbox(self.settings)
        courier = Courier(self.settings, self.gateway, self.store, outbox)
        courier.start()
        atexit.register(courier.stop)
        return outbox

    @cached_property
    def _controls(self) -> Controls:
        return self._connections.controls(self.settings)

    @cached_property
    def _dead_letters(self) -> DeadLetters:
        return self._connections.dead_letters(self.settings)

    @cached_property
    def _gateway(self) -> Gateway:
        gateway = self._connections.gateway(self.settings)
        atexit.register(self.close)
        return gateway

    @cached_property
    def _monitor(self) -> Monitor:
        return self._connections.monitor(self.settings)

    @cached_property
    def _store(self) -> Store:
        return self._connections.store(self.settings)

    def close(self) -> None:
        """Stop the listener thread; the next use of the gateway makes a new one."""
        with self._lock:
            if gateway := self.__dict__.pop("_gateway", None):
                gateway.close()


def engine() -> Engine:
    """The engine of the app that handles the current request."""
    return cast("Engine", current_app.extensions[EXTENSION])
