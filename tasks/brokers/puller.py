"""How a worker takes messages from RabbitMQ: it asks for one when it has a place for it, and for none before.

A consumer would be sent messages ahead of need: out of weighted order, from paused lanes, and into the socket of a
worker that has just frozen. So Celery's consumer of a lane is a callback here (:mod:`tasks.brokers.channel`), and one
thread with a connection of its own goes round:

1. Ask Redis which lanes may hold something (``look``) and look there with ``basic.get``, in the order of
   :mod:`tasks.lanes`; what was given back comes first.
2. Write down in Redis that this worker holds the message (``hold``), then hand it to Celery.
3. When nothing was found wait on the lanes' doorbells in Redis, a second at most.

Acknowledgements to RabbitMQ follow :class:`tasks.ownership.Ownership`: what it no longer holds is acknowledged on the
next round, after the commit. When the connection breaks RabbitMQ delivers again what was not acknowledged; ``begin``
tells those copies to go away while this worker runs the request.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kombu.asynchronous import Hub, get_event_loop
from redis.exceptions import RedisError

from tasks import connections, scripts
from tasks.brokers import topology
from tasks.brokers.letters import entry_of, express, from_amqp, lane_of
from tasks.brokers.link import FAULTS, Link
from tasks.brokers.relay import report
from tasks.envelope import size
from tasks.keys import Keys
from tasks.lanes import configured_order
from tasks.lease import end_process

if TYPE_CHECKING:
    import amqp

    from settings import Settings
    from tasks.ownership import Ownership

log = logging.getLogger(__name__)

#: A worker that falls silent is given up by RabbitMQ after two to three of these, about as soon as its lease runs out.
HEARTBEAT = 1.0
#: What that grows to while connections break: a RabbitMQ that needs seconds for an answer would never get to give it.
SLOWEST = 8.0
#: Seconds to wait on the doorbells, or for a place to become free.
PAUSE = 0.5
#: Seconds between looks into every lane, whether Redis knows of something in it or not.
EVERYWHERE = 5.0

Callback = Callable[[Any], None]


class Puller:
    """The takes of one worker process."""

    def __init__(self, settings: Settings, owner: Ownership) -> None:
        self._owner = owner
        self._keys = Keys(settings.key_prefix)
        self._client = connections.prompt(settings.redis_url)
        self._bells = connections.blocking(settings.redis_url, PAUSE)
        self._link = Link(settings.amqp_url, heartbeat=HEARTBEAT)
        self._hub: Hub | None = None
        self._callbacks: dict[str, Callback] = {}
        self._order = configured_order()
        self._taken: dict[str, int] = {}
        self._declared: set[str] = set()
        self._looked_everywhere = 0.0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="puller", daemon=True)
        self.credit = 1
        owner.on_room = self.wake

    # -- for Celery's thread

    def attach(self, lane: str, callback: Callback) -> None:
        """Take from this lane and hand it to ``callback``, on the event loop's thread."""
        with self._changed:
            self._hub = get_event_loop() or self._hub  # the worker has one; kombu forgets it after a broken connection
            self._callbacks = {**self._callbacks, lane: callback}
            self._order.update(self._callbacks)
            self._changed.notify()

    def detach(self, lane: str) -> None:
        """Take no more from this lane."""
        with self._changed:
            self._callbacks = {name: call for name, call in self._callbacks.items() if name != lane}
            self._order.update(self._callbacks)

    def settle(self, tag: str) -> None:
        """The delivery has been dealt with."""
        self._owner.settle(tag)
        self.wake()

    def abandon(self, tag: str) -> None:
        """The lease thread gives the delivery back, see :meth:`tasks.ownership.Ownership.abandon`."""
        self._owner.abandon(tag)
        self.wake()

    def wake(self) -> None:
        """A place has become free."""
        with self._changed:
            self._changed.notify()

    # -- the thread

    def start(self) -> None:
        """Begin; nothing is taken before a lane is attached."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more; acknowledge what is done."""
        self._stop.set()
        self.wake()
        self._thread.join(timeout=2.0)

    def _live(self) -> None:
        try:
            while not self._stop.is_set():
                self._round_or_reconnect()
            self._acknowledge()
        except FAULTS as error:
            log.warning("not acknowledged, RabbitMQ delivers again and the next worker drops it: %s", error)
        except Exception:
            # A worker that can take nothing must not go on looking as if it did.
            log.critical("the puller failed: this worker exits", exc_info=True)
            end_process()
        self._link.close()

    def _round_or_reconnect(self) -> None:
        try:
            self._round()
        except FAULTS as error:
            report(self._client, self._keys, "a worker", error)
            self._lose_connection()
        except RedisError as error:
            # RabbitMQ may have handed out what Redis does not know of: with the connection it goes back.
            log.warning("nothing is taken while Redis does not answer: %s", error)
            self._lose_connection()

    def _lose_connection(self) -> None:
        self._link.heartbeat = min(SLOWEST, 2 * self._link.heartbeat)
        self._drop()
        self._stop.wait(PAUSE)

    def _drop(self) -> None:
        self._link.drop()
        self._taken.clear()
        self._declared.clear()

    def _round(self) -> None:
        self._acknowledge()
        self._link.breathe()
        if not self._may_take():
            with self._changed:
                if not self._may_take():
                    self._changed.wait(PAUSE)
            return
        everywhere = time.monotonic() - self._looked_everywhere > EVERYWHERE
        queues = self._look(everywhere=everywhere)
        if queues is None:
            self._stop.wait(0.1)
        elif not any(self._take(queue) for queue in queues):
            if everywhere:
                self._looked_everywhere = time.monotonic()
            self._beat_as_usual()
            self._await_bell()

    def _beat_as_usual(self) -> None:
        """RabbitMQ answers again: beat fast on the next connection, and make it one when nothing is in hands."""
        if self._link.heartbeat > HEARTBEAT and not self._taken:
            self._link.heartbeat = HEARTBEAT
            self._drop()

    def _may_take(self) -> bool:
        room = not self.credit or self._owner.has_room(self.credit)
        return bool(self._callbacks) and self._owner.taking and room

    def _acknowledge(self) -> None:
        done = [tag for tag in self._taken if tag not in self._owner]
        for tag in done:
            self._link.channel.basic_ack(self._taken.pop(tag))

    # -- where to look

    def _queues(self) -> list[str]:
        """Every queue of this worker in the order of this moment: what was given back, then the lanes."""
        lanes = self._order.consume(len(self._callbacks))
        return [*dict.fromkeys(express(lane) for lane in lanes), *lanes]

    def _look(self, *, everywhere: bool) -> list[str] | None:
        """The queues worth looking into, in order; None while this worker is not registered.

        Now and then that is every lane that is not paused: a message may be in RabbitMQ that Redis knows nothing of.
        """
        queues = self._queues()
        arguments = [self._keys.prefix, self._owner.boot, len(queues), *queues, *self._owner.settled()]
        registered, *answers = scripts.run(self._client, "look", (), arguments)
        if not registered:
            return None
        least = 1 if everywhere else 2
        return [queue for queue, answer in zip(queues, answers, strict=True) if answer >= least]

    def _await_bell(self) -> None:
        if not self._stop.is_set():
            self._bells.brpop([self._keys.bell(queue) for queue in self._queues()], timeout=PAUSE)

    # -- taking

    def _take(self, queue: str) -> bool:
        """One message from this queue, if there is one."""
        self._declare(queue)
        raw = self._link.channel.basic_get(queue)
        if raw is None:
            return False
        lane = lane_of(raw, queue)
        tag = self._owner.new_tag()
        if not self._hold(raw, queue, lane, tag):
            self._link.channel.basic_reject(raw.delivery_tag, True)
            return False
        self._order.rotate(queue)
        self._deliver(raw, lane, tag)
        return True

    def _declare(self, queue: str) -> None:
        if queue not in self._declared:
            topology.declare(self._link.channel, queue)
            self._declared.add(queue)

    def _hold(self, raw: amqp.Message, queue: str, lane: str, tag: str) -> bool:
        message = from_amqp(raw, lane)
        text = json.dumps(message, separators=(",", ":"))
        arguments = [self._keys.prefix, self._owner.boot, tag, lane, text, entry_of(message), queue]
        self._owner.hold(tag, size(message))
        held = False
        try:
            held = bool(scripts.run(self._client, "hold", (), arguments))
        finally:
            if not held:  # should the script have run all the same, reconcile gives the delivery back
                self._owner.abandon(tag)
        return held

    def _deliver(self, raw: amqp.Message, lane: str, tag: str) -> None:
        """Hand the message to Celery as if a consumer had been sent it, under this process's own tag."""
        callbacks = self._callbacks
        callback = callbacks.get(lane) or next(iter(callbacks.values()), None)
        self._taken[tag] = int(raw.delivery_tag or 0)
        if callback is None or self._hub is None:  # Celery has just stopped consuming: reconcile gives it back
            self._owner.abandon(tag)
            return
        raw.delivery_info = {**raw.delivery_info, "delivery_tag": tag, "exchange": "", "routing_key": lane}
        raw.properties["delivery_tag"] = tag
        self._hub.call_soon(callback, raw)


_current: Puller | None = None


def employ(settings: Settings, owner: Ownership) -> Puller:
    """Make this process's puller; called once, before Celery consumes."""
    global _current  # noqa: PLW0603 - a process has one, as it has one identity
    _current = Puller(settings, owner)
    return _current


def current() -> Puller | None:
    """This process's puller; None in a process that owns nothing."""
    return _current
