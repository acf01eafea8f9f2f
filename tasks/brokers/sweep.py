"""What every worker does for all messages on their way through RabbitMQ, from a thread of its own.

* Publish what its producer did not (it died, or RabbitMQ was down), and what has no producer: rescued, given back, due
  for another try.
* End the requests of messages that RabbitMQ gave up as our dead letters.
* Publish again what RabbitMQ confirmed and then lost: a node without its disk, a queue that somebody deleted.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from tasks import connections, envelope, scripts
from tasks.brokers import topology
from tasks.brokers.letters import UNDELIVERABLE, Letter, from_amqp, lane_of, opened
from tasks.brokers.link import FAULTS, Link
from tasks.brokers.relay import deliver, report
from tasks.lease import end_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from settings import Settings
    from tasks.keys import Keys

log = logging.getLogger(__name__)

TICK = 0.25
HEARTBEAT = 10.0
#: Seconds to leave RabbitMQ alone after a fault.
AFTER_FAULT = 0.5
#: Seconds a claimed letter is left to its claimant.
CLAIM = 2.0
MOST = 200
#: Seconds after which a confirmed letter that nobody took is looked for.
ASTRAY = 10.0
#: Ticks between looks at what RabbitMQ gave up and may have lost.
SELDOM = 8


class Sweep:
    """Runs until closed."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._keys = keys
        self._failure_ttl = settings.failure_ttl
        self._client = connections.prompt(settings.redis_url)
        self._link = Link(settings.amqp_url, heartbeat=HEARTBEAT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="sweep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; the other workers go on."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _live(self) -> None:
        ticks = 0
        try:
            while not self._stop.wait(TICK):
                ticks += 1
                self._tick(seldom=ticks % SELDOM == 0)
        except Exception:
            # Nobody would miss it until it is needed: let a supervisor start a whole worker.
            log.critical("the sweep failed: this worker exits", exc_info=True)
            end_process()
        self._link.close()

    def _tick(self, *, seldom: bool) -> None:
        try:
            self._publish_due()
            if seldom:
                self._bury_undeliverable()
                self._find_astray()
            self._link.breathe()
        except FAULTS as error:
            report(self._client, self._keys, "a worker", error)
            self._link.drop()
            self._stop.wait(AFTER_FAULT)
        except RedisError as error:
            log.warning("not swept: %s", error)

    def _publish_due(self) -> None:
        while letters := self._letters("claim", CLAIM):
            done = deliver(self._link, self._client, self._keys, letters)
            if done < len(letters):
                log.warning("RabbitMQ refused %d letter(s), they will be published again", len(letters) - done)
            if len(letters) < MOST:
                return

    def _letters(self, script: str, seconds: float) -> list[Letter]:
        found = scripts.run(self._client, script, (), [self._keys.prefix, seconds, MOST])
        return [opened(entry, stored) for entry, stored in zip(found[::2], found[1::2], strict=True)]

    # -- what RabbitMQ gave up

    def _bury_undeliverable(self) -> None:
        """Acknowledged after the record says so; two workers that see the same message bury it once."""
        topology.declare(self._link.channel, UNDELIVERABLE)
        while (raw := self._link.channel.basic_get(UNDELIVERABLE)) is not None:
            self._bury(raw)
            self._link.channel.basic_ack(raw.delivery_tag)

    def _bury(self, raw: Any) -> None:
        message = from_amqp(raw, lane_of(raw, ""))
        for request_id in envelope.requests_in(message):
            arguments = [self._keys.prefix, request_id, self._failure_ttl]
            if scripts.run(self._client, "undeliverable", (), arguments):
                log.error("request %s became a dead letter: RabbitMQ gave its message up", request_id)

    # -- what RabbitMQ lost

    def _find_astray(self) -> None:
        """A queue that is empty although letters were confirmed into it has lost them; any other has a backlog."""
        letters = self._letters("astray", ASTRAY)
        depth = {queue: self._depth(queue) for queue in {letter.queue for letter in letters}}
        lost = [letter for letter in letters if depth[letter.queue] == 0]
        if lost:
            log.error("RabbitMQ has lost %d letter(s), they are published again", len(lost))
            scripts.run(self._client, "repost", (), [self._keys.prefix, *(letter.entry for letter in lost)])
        self._look_again_later([letter for letter in letters if depth[letter.queue] > 0])

    def _depth(self, queue: str) -> int:
        topology.declare(self._link.channel, queue)
        return topology.ready(self._link.channel, queue)

    def _look_again_later(self, letters: Sequence[Letter]) -> None:
        if letters:
            now = scripts.run(self._client, "clock", (), [self._keys.prefix])
            self._client.zadd(self._keys.carried, {letter.entry: now for letter in letters}, xx=True)
