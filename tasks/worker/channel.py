"""The kombu Redis channel with an atomic, owner-tagged take.

Stock kombu pops a message with BRPOP and writes ``unacked`` in a second round trip: a process killed in between takes
the message with it. Here one script (``lua/take.lua``) pops from the ordered lanes and writes down the holder in the
same step.

The protocol, on the one connection that stock kombu uses for BRPOP:

1. While there is credit, send ``take`` with as many fresh tags. Messages are delivered at once, and step 1 repeats.
2. If fewer came than wanted, every lane is empty: send ``BRPOP`` on the lanes' doorbells; producers ring them.
   After a bell, or a second without one, step 1 follows: a lost bell costs a second, never a message.
3. A worker that is not registered (it was declared dead) gets nothing until its lease thread has registered it.

* *A message is in a lane, in one worker's ``unacked`` hash or among the retries.* Each script moves it in one step.
* *A taken message that never reached this process is not lost.* Its tag is in the hash but unknown here, and
  :meth:`tasks.worker.registration.Registration.reconcile` gives it back.
* *Closing a channel gives nothing back.* Deliveries belong to the process (:mod:`tasks.worker.ownership`): after a
  broken connection its threads acknowledge through the next one. Stock kombu would run the deliveries twice.
* *An acknowledgement costs nothing and cannot fail.* It is local and travels with the next take. If it is lost, the
  delivery is given back, and its next holder finds that its requests have ended.

Producers, and consumers that need no acknowledgement (``mingle``, reply queues), get stock behaviour. Limits: one
priority step (lanes are the priorities), no batched publishing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from queue import Empty
from time import monotonic
from types import SimpleNamespace
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from tasks.lanes import urgency
from tasks.protocol import envelope, scripts
from tasks.protocol.connections import NotNow, leaving, send
from tasks.protocol.keys import Keys
from tasks.worker import ownership
from tasks.worker.ownership import Ownership

log = logging.getLogger(__name__)

#: Service seconds to expect of a request while none has been measured.
LEAST_COST = 0.001


class OwnedQoS(kombu_redis.QoS):
    """Acknowledgement against this process's own hash; stock behaviour where the process owns nothing."""

    restore_at_shutdown = False

    @property
    def owner(self) -> Ownership | None:
        """The process that acknowledges here; None for stock behaviour."""
        return self.channel.owner if self.channel.takes else None

    def can_consume(self) -> bool:
        """Credit counts what the whole process holds, so a reconnect hands out nothing beyond it."""
        owner = self.owner
        if owner is None:
            return bool(super().can_consume())
        return owner.taking and (not self.prefetch_count or owner.has_room(self.prefetch_count))

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a delivery; ``take`` has already written it down in Redis."""
        if self.owner is None:
            super().append(message, delivery_tag)
        else:
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a delivery; the next take tells Redis."""
        owner = self.owner
        if owner is None:
            super().ack(delivery_tag)
            return
        virtual.QoS.ack(self, delivery_tag)
        owner.acknowledge(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Refuse a delivery; with ``requeue`` it goes back to the head of its lane through reconcile."""
        owner = self.owner
        if owner is None:
            super().reject(delivery_tag, requeue=requeue)
        elif requeue:
            virtual.QoS.ack(self, delivery_tag)
            owner.release(delivery_tag)
        else:
            self.ack(delivery_tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """No visibility timeout: a delivery is given back when its owner dies, not when it takes long."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Closing a channel gives nothing back; see the module docstring."""
        if self.owner is None:
            super().restore_unacked_once(stderr)


class ParsedMessage(virtual.Message):
    """A message whose body is parsed once, here, if it is a delivery of ours; Celery would parse it twice."""

    body: Any
    content_type: str | None

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        super().__init__(payload, channel=channel, **kwargs)
        if self.content_type == "application/json" and self.headers.get("task") == envelope.TASK:
            self.body = self._decoded_cache = json.loads(self.body)
            self.content_type = None  # Celery takes the body as it is


class OwnedChannel(kombu_redis.Channel):
    """See the module docstring."""

    QoS = OwnedQoS
    Message = ParsedMessage
    supports_batch_publish = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.owner = ownership.current()
        self._awaiting_bell = False
        self._sent: _Sent | None = None
        super().__init__(*args, **kwargs)
        self.keys = Keys(self.global_keyprefix)
        self._no_ack: set[str] = set()

    def _connparams(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A connection that leaves a server which takes no writes is a lost one: Celery connects again."""
        params: dict[str, Any] = super()._connparams(*args, **kwargs)
        return params | {"connection_class": leaving(params["connection_class"])}

    @property
    def takes(self) -> bool:
        """Whether messages arrive by ``take``; decided anew each time, because consumers come and go."""
        return self.owner is not None and not self._no_ack

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consume; a consumer that never acknowledges turns this channel back to stock BRPOP."""
        if no_ack and queue not in self._fanout_queues:
            self._no_ack.add(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        self._no_ack.discard(self._tag_to_queue.get(consumer_tag, ""))
        return super()._basic_cancel(consumer_tag)

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        """Append to the lane and ring its bell in one step."""
        with self.conn_or_acquire() as client:
            scripts.run(_bare(client), "put", self.keys.lane_and_bell(queue), [self.keys.prefix, dumps(message)])

    def _size(self, queue: str) -> int:
        """One plain LLEN: kombu's MULTI is refused when Redis is full, and a worker must be able to start then."""
        with self.conn_or_acquire() as client:
            return int(client.llen(queue))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Remember a binding; a full Redis has no room for it, and lanes do not need it."""
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except OutOfMemoryError:
            log.warning("Redis is full: the binding of %s to %s is not stored", queue, exchange)

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self.takes:
            self._sent = None
            super()._brpop_start(timeout)
            return
        assert self.owner is not None  # noqa: S101 - `takes` says so; for the type checker
        lanes = self._queue_cycle.consume()
        if urgent_only := self.owner.full():  # and only if it is their turn
            lanes = [name for name in lanes if urgency(name) == urgency(lanes[0]) == 0]
        if lanes:
            self._in_poll = self.client.connection
            self._brpop_sent_at = monotonic()
            self._send(lanes, timeout or self.brpop_timeout, urgent_only=urgent_only)

    def _send(self, lanes: list[str], timeout: float, *, urgent_only: bool) -> None:
        """The next step of the protocol."""
        if self._awaiting_bell and not urgent_only:
            self._sent = _Sent(lanes)
            bells = [self.keys.bell(name) for name in lanes]
            send(self.client.connection, "BRPOP", *bells, timeout or 0)
        else:
            self._sent = self._next_take(lanes, urgent_only=urgent_only)
            send(self.client.connection, *scripts.command("take", *self._sent.call))

    def _next_take(self, lanes: list[str], *, urgent_only: bool) -> _Sent:
        """A take of a batch at most, because another worker may be idle; each delivery has its own order of the lanes.

        A take from the urgent lanes alone is one delivery, so that LANE_WEIGHTS hold.
        """
        owner = self.owner
        assert owner is not None  # noqa: S101 - as above
        wanted = 1 if urgent_only else max(1, min(owner.room(), owner.batch))
        places = self.qos.prefetch_count - len(owner) if self.qos.prefetch_count else 1
        tags = [owner.new_tag() for _ in range(max(1, min(wanted, places)))]
        orders = [lanes] if urgent_only else self._queue_cycle.plan(len(tags), len(lanes))
        cost = max(LEAST_COST, round(owner.cost(), 6))
        call = take_call(self.keys, owner, lanes, tags, orders, wanted, cost)
        return _Sent(lanes, tags, wanted, cost, call, urgent_only)

    def _brpop_read(self, **options: Any) -> bool:
        if self._sent is None:
            return bool(super()._brpop_read(**options))
        sent, self._sent = self._sent, None
        try:
            answer = self._read_answer(sent.call)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not sent.tags:
            self._awaiting_bell = False
            raise Empty
        return self._deliver_taken(sent, answer)

    def _read_answer(self, call: tuple[Any, ...]) -> Any:
        try:
            return self.client.connection.read_response()
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        except NoScriptError:
            send(self.client.connection, *scripts.command("take", *call, full=True))
            return self.client.connection.read_response()
        except ResponseError as error:
            # The server is up but refuses (a permission is missing, say): connect again, which waits between attempts.
            self.client.connection.disconnect()
            raise NotNow(str(error)) from error

    def _deliver_taken(self, sent: _Sent, answer: list[Any]) -> bool:
        """Deliver the taken messages; all of them are held before the first is delivered."""
        assert self.owner is not None  # noqa: S101 - as above
        taken = [
            (sent.lanes[number - 1], json.loads(text)) for number, text in zip(answer[::2], answer[1::2], strict=False)
        ]
        sizes = [envelope.size(message) for _, message in taken]
        for tag, (lane, message), size in zip(sent.tags, taken, sizes, strict=False):
            self._queue_cycle.rotate(lane, size)
            self.owner.hold(tag, size, size * sent.cost)
            message["properties"]["delivery_tag"] = tag
        if not sent.urgent_only:
            self._awaiting_bell = len(taken) < len(sent.tags) and sum(sizes) < sent.wanted
        if not taken:
            raise Empty
        for lane, message in taken:
            self.connection._deliver(message, lane)  # noqa: SLF001 - the hook that kombu's own channels call
        return True


@dataclass(frozen=True, slots=True)
class _Sent:
    """The command under way: a take of so many requests or, without tags, a wait for a bell."""

    lanes: list[str]
    tags: list[str] = field(default_factory=list)
    wanted: int = 0
    cost: float = 0.0
    call: tuple[Any, ...] = ()
    urgent_only: bool = False


def take_call(
    keys: Keys,
    owner: Ownership,
    lanes: Sequence[str],
    tags: Sequence[str],
    orders: Sequence[Sequence[str]],
    wanted: int,
    cost: float = LEAST_COST,
) -> tuple[list[str], list[Any]]:
    """Keys and arguments of ``take.lua``, with the owner's acknowledgements.

    ``orders`` has the lanes in the order to look in, for each of the ``tags``; the last message may exceed ``wanted``
    requests; ``cost`` is the service seconds to expect of a request.
    """
    letter, places = _places(keys, tuple(lanes))
    words = [wanted, " ".join(tags), " ".join(["".join(map(letter, order)) for order in orders])]
    ended = [f"{tag} {unpaid:.6f}" if unpaid else tag for tag, unpaid in owner.acknowledged().items()]
    return places, [keys.prefix, owner.boot, *words, cost, *lanes, *ended]


@lru_cache
def _places(keys: Keys, lanes: tuple[str, ...]) -> tuple[Callable[[str], str], list[str]]:
    """For these lanes: the letter of each in an order, and the keys of all lists and all bells."""
    letters = {name: chr(ord("A") + place) for place, name in enumerate(lanes)}
    return letters.__getitem__, [*map(keys.lane, lanes), *map(keys.bell, lanes)]


def _bare(client: Any) -> Any:
    """The client without kombu's key prefixing: scripts get whole keys."""
    if not isinstance(client, kombu_redis.PrefixedStrictRedis):
        return client
    return SimpleNamespace(execute_command=partial(kombu_redis.redis.Redis.execute_command, client))


class Transport(kombu_redis.Transport):
    """Redis, ``redis://`` and ``rediss://``."""

    Channel = OwnedChannel
    supports_batch_publish = False


class SentinelChannel(OwnedChannel, kombu_redis.SentinelChannel):
    """The same protocol on connections that a Sentinel hands out."""


class SentinelTransport(Transport, kombu_redis.SentinelTransport):
    """``sentinel://host:26379;sentinel://...`` with ``master_name`` among the transport options."""

    Channel = SentinelChannel
