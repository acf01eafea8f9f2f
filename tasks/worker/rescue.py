"""Where a worker is declared dead: its lease has run out, or its guardian has seen it end. Its deliveries go back.

Every worker does this for all others, from its lease thread. Any number of them may do it at once: the scripts let
exactly one caller move a delivery.
"""

from __future__ import annotations

import json
import logging
import random
import time

from common.settings import Settings
from tasks.protocol import envelope, scripts
from tasks.protocol.connections import Client
from tasks.protocol.keys import Keys
from tasks.protocol.records import ttls

log = logging.getLogger(__name__)

#: How many workers ask each time, on average, whether it is their turn to look for dead ones.
ASKING = 4


class Rescuer:
    """Finds dead workers and returns their deliveries to the lanes."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self._keys = Keys(settings.key_prefix)
        self._settings = settings
        self._registered = 1
        self._looked: tuple[float, float] | None = None
        """Redis' clock and this host's monotonic one at the last look for dead workers."""

    def lapsed(self, *, ask: bool) -> list[str] | None:
        """Boot ids of registered workers whose lease has run out; None when it is not this caller's turn to look.

        Thousands of workers asking for one turn would keep Redis busy. So of many workers only a few ask each time, at
        random, unless ``ask`` is set: when many die at once, few are left.
        """
        if not ask and random.random() * self._registered > ASKING:  # noqa: S311 - spreads load
            return None
        turn = max(1, int(self._settings.lease_renew * 400))
        mine, self._registered, *found = scripts.run(self.client, "lapsed", (), [self._keys.prefix, turn])
        if not mine or self._stepped(float(found[0])):
            return None
        return [boot.decode() for boot in found[1:]]

    def rescue(self, boot: str) -> int:
        """Return a dead worker's deliveries and unregister it; how many requests run again."""
        held = self.client.hgetall(self._keys.unacked(boot))
        rescued = sum(self._rescue(boot, tag.decode(), held[tag]) for tag in sorted(held, key=int, reverse=True))
        if scripts.run(self.client, "forget", (), [self._keys.prefix, boot, "0"]):
            log.warning("worker %s died: %d of its requests run again", boot, rescued)
        return rescued

    def bury(self, boot: str, verdict: str) -> int:
        """As :meth:`rescue`, for a worker that its guardian has seen end, whatever its lease says."""
        return self.rescue(boot) if scripts.run(self.client, "died", (), [self._keys.prefix, boot, verdict]) else 0

    def _rescue(self, boot: str, tag: str, held: bytes) -> int:
        lane, text, ids = envelope.unpack(held)
        message = envelope.mark_redelivered(json.loads(text))
        args = [self._keys.prefix, boot, tag, message, self._settings.max_deliveries, ttls(self._settings), *ids]
        open_requests, dead = scripts.run(self.client, "rescue", self._keys.lane_and_bell(lane), args)
        if dead:
            log.error("%d request(s) of %s became dead letters", dead, boot)
        return max(0, int(open_requests))

    def _stepped(self, clock: float) -> bool:
        """Whether Redis' clock was set since the last look, or this is the first look; then no lease can be judged."""
        monotonic, tolerance = steady(), self._settings.lease_ttl / 2
        before, self._looked = self._looked, (clock, monotonic)
        if before is None:
            return True
        expected = before[0] + monotonic - before[1]
        if abs(clock - expected) < tolerance:
            return False
        step = float(scripts.run(self.client, "step", (), [self._keys.prefix, expected, tolerance]))
        log.warning("the clock of Redis' host was set by %.1f s: leases, deadlines and retries move along", step)
        self._looked = None
        return True


def steady() -> float:
    """Seconds of a clock that nobody can set and that goes on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class GracePeriod:
    """No worker is declared dead during an outage of Redis, nor for ``seconds`` after it.

    After an outage every lease has run out though no worker died; within two TTLs the live ones renew them.
    ``reachable`` is for how many seconds Redis has answered.
    """

    def __init__(self, seconds: float, reachable: float) -> None:
        self._seconds = seconds
        self._since = time.monotonic() - reachable

    def restart(self) -> None:
        """Redis did not answer, or answered late."""
        self._since = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether Redis has answered for long enough."""
        return time.monotonic() - self._since >= self._seconds
