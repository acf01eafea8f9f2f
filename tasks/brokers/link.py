"""One connection to RabbitMQ and one channel on it, opened when needed and again after a fault. For one thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import amqp
from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import KombuError

from tasks.brokers import topology
from tasks.brokers.letters import Letter, to_amqp

log = logging.getLogger(__name__)

#: Whatever a broken or refused connection looks like.
FAULTS = (AMQPError, KombuError, OSError)

#: Seconds within which RabbitMQ answers, or the connection is given up.
PATIENCE = 10.0


class Link:
    """A connection that knows how to publish with confirmation, get and acknowledge.

    Every method raises one of :data:`FAULTS` when the connection breaks; :meth:`drop` it then, the next call opens
    another. What was delivered on the old one goes back to its queue by itself.
    """

    def __init__(self, url: str, *, heartbeat: float) -> None:
        """``heartbeat``: RabbitMQ gives a silent connection up after about two to three times as many seconds.

        It counts from the next connection on when it is changed.
        """
        self._url = url
        self.heartbeat = heartbeat
        self._connection: Connection | None = None
        self._channel: Any = None
        self._published = 0
        self._pending: dict[int, Letter] = {}
        self._returned: list[Letter] = []

    @property
    def channel(self) -> Any:
        """The open channel."""
        if self._channel is None:
            self._open()
        return self._channel

    def _open(self) -> None:
        options = {"read_timeout": PATIENCE, "write_timeout": PATIENCE}
        connection = Connection(self._url, heartbeat=self.heartbeat, connect_timeout=2, transport_options=options)
        self._connection = connection
        connection.connect()
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._confirmed)
        channel.events["basic_nack"].add(self._refused)
        channel.events["basic_return"].add(self._came_back)
        self._published, self._pending = 0, {}
        self._channel = channel

    def drop(self) -> None:
        """Forget the connection without a word to the other side."""
        connection, self._connection, self._channel = self._connection, None, None
        self._pending, self._returned = {}, []
        if connection is not None:
            connection.collect()

    def close(self) -> None:
        """Say goodbye when there is a connection."""
        if self._connection is not None and self._channel is not None:
            try:
                self._connection.close()
            except FAULTS as error:
                log.debug("RabbitMQ connection ended badly: %s", error)
        self.drop()

    def breathe(self) -> None:
        """Keep an idle connection alive, and notice when it is not."""
        if self._channel is None:
            return
        raw = self._channel.connection
        try:
            while True:
                raw.drain_events(timeout=0.001)
        except TimeoutError:
            raw.heartbeat_tick()

    # -- publishing

    def publish(self, letters: Sequence[Letter]) -> list[Letter]:
        """Publish all of them; those that RabbitMQ has safely taken. Queues that are missing are made on the way."""
        refused = self._publish_once(letters)
        if homeless := {letter.queue for letter in self._returned}:
            for queue in sorted(homeless):
                topology.declare(self.channel, queue)
            again, self._returned = self._returned, []
            refused = [letter for letter in refused if letter not in again] + self._publish_once(again)
        return [letter for letter in letters if letter not in refused]

    def _publish_once(self, letters: Sequence[Letter]) -> list[Letter]:
        """Those that were not taken."""
        channel = self.channel
        self._nacked: list[Letter] = []
        self._returned = []
        for letter in letters:
            self._published += 1
            self._pending[self._published] = letter
            channel.basic_publish(to_amqp(letter), routing_key=letter.queue, mandatory=True)
        self._await_confirmation()
        return self._nacked + self._returned

    def _await_confirmation(self) -> None:
        ends = time.monotonic() + PATIENCE
        while self._pending:
            self.channel.connection.drain_events(timeout=max(0.001, ends - time.monotonic()))

    def _confirmed(self, tag: int, multiple: bool) -> None:
        for number in self._numbers(tag, multiple):
            del self._pending[number]

    def _refused(self, tag: int, multiple: bool) -> None:
        for number in self._numbers(tag, multiple):
            self._nacked.append(self._pending.pop(number))

    def _numbers(self, tag: int, multiple: bool) -> list[int]:
        return [number for number in self._pending if number == tag or (multiple and number <= tag)]

    def _came_back(self, _error: Exception, _exchange: str, queue: str, message: amqp.Message) -> None:
        """Unroutable; its confirmation follows all the same."""
        entry = message.properties.get("correlation_id")
        self._returned += [
            letter for letter in self._pending.values() if letter.entry == entry and letter.queue == queue
        ][:1]
