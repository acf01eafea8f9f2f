"""What becomes of deliveries that nobody will finish: given back by a living worker, rescued from a dead one.

Every worker runs a :class:`Deliveries` from its lease thread. All of it is safe to run anywhere, any number of times:
the scripts let exactly one caller move a delivery.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Mapping
from typing import Any

from common.settings import Settings
from tasks.protocol import envelope, scripts
from tasks.protocol.connections import Client
from tasks.protocol.keys import Keys
from tasks.protocol.records import ttls
from tasks.worker.ownership import Ownership

log = logging.getLogger(__name__)

#: How many workers ask each time, on average, whether it is their turn to look for the dead.
ASKING = 4


class Deliveries:
    """Moves deliveries back to their lanes."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.keys = Keys(settings.key_prefix)
        self._settings = settings
        self._unknown: frozenset[str] = frozenset()
        self._fleet = 1
        self._looked: tuple[float, float] | None = None
        """Redis' clock and this host's steady one at the last look for the dead."""

    # -- a living worker's own

    def report(self, owner: Ownership) -> None:
        """Tell Redis of deliveries settled since the last take."""
        if tags := owner.settled():
            self.client.hdel(self.keys.unacked(owner.boot), *tags)

    def reconcile(self, owner: Ownership) -> int:
        """Give back what Redis thinks this process holds and the process does not know; how many.

        A tag counts only when it was unknown at the last call too: the reply that brings it may be on its way.
        """
        written = {tag.decode() for tag in self.client.hkeys(self.keys.unacked(owner.boot))}
        unknown = frozenset(written - owner.known())
        orphans, self._unknown = unknown & self._unknown, unknown
        return sum(self._give_back(owner.boot, tag) for tag in sorted(orphans, key=int))

    def give_back_all(self, owner: Ownership) -> int:
        """Return everything this process still holds, latest first, so that the lane's head keeps its order."""
        self.report(owner)
        tags = sorted(self.client.hkeys(self.keys.unacked(owner.boot)), key=int, reverse=True)
        return sum(self._give_back(owner.boot, tag.decode()) for tag in tags)

    def _give_back(self, boot: str, tag: str) -> bool:
        held = self.client.hget(self.keys.unacked(boot), tag)
        if held is None:
            return False
        lane, text, _, ids = _open(held)
        return bool(self._run("give_back", lane, [boot, tag, text, "0", *ids]))

    def renew(self, boot: str, description: str = "", *, register: bool = False) -> dict[str, Any] | None:
        """Prove that a worker lives; the orders that a person left for it, None when it is not registered.

        Args:
            boot: its boot id.
            description: what others may know of it, as JSON; empty keeps what they know.
            register: whether to register it.
        """
        ttl = int(self._settings.lease_ttl * 1000)
        alive, *orders = self._run("renew", None, [boot, ttl, description, int(register)])
        if not alive:
            return None
        return {name.decode(): json.loads(value) for name, value in zip(orders[::2], orders[1::2], strict=True)}

    # -- a dead worker's

    def bury(self, boot: str, verdict: str) -> int:
        """As :meth:`rescue` for a worker that its guardian has seen end, whatever its lease says."""
        return self.rescue(boot) if self._run("died", None, [boot, verdict]) else 0

    def lapsed(self, *, ask: bool) -> list[str] | None:
        """Boot ids of registered workers whose lease has run out; None when it is not this caller's turn to look.

        Thousands of workers asking for one turn would keep Redis busy with nothing else. So in a large fleet only a few
        of them ask each time, by chance, but for those that ``ask`` in any case: when many die at once, few are left.
        """
        if not ask and random.random() * self._fleet > ASKING:  # noqa: S311 - spreads load
            return None
        turn = max(1, int(self._settings.lease_renew * 400))
        mine, self._fleet, *found = scripts.run(self.client, "lapsed", (), [self.keys.prefix, turn])
        if not mine or self._stepped(float(found[0])):
            return None
        return [boot.decode() for boot in found[1:]]

    def _stepped(self, clock: float) -> bool:
        """Whether Redis' clock was set since the last look, or whether this is the first; then nobody may be judged."""
        monotonic = steady()
        before, self._looked = self._looked, (clock, monotonic)
        if before is None:
            return True
        expected = before[0] + monotonic - before[1]
        if abs(clock - expected) < self._settings.lease_ttl / 2:
            return False
        step = float(self._run("step", None, [expected, self._settings.lease_ttl / 2]))
        log.warning("the clock of Redis' host was set by %.1f s: leases begin anew, deadlines move along", step)
        self._looked = None
        return True

    def rescue(self, boot: str) -> int:
        """Give a dead worker's deliveries back and take it off the register; how many requests run again."""
        held = self.client.hgetall(self.keys.unacked(boot))
        rescued = sum(self._rescue(boot, tag.decode(), held[tag]) for tag in sorted(held, key=int, reverse=True))
        if self._run("forget", None, [boot, "0"]):
            log.warning("worker %s died: %d of its requests run again", boot, rescued)
        return rescued

    def _rescue(self, boot: str, tag: str, held: bytes) -> int:
        lane, _, message, ids = _open(held)
        args = [boot, tag, envelope.mark_redelivered(message), self._settings.max_deliveries]
        open_requests, dead = self._run("rescue", lane, [*args, ttls(self._settings), *ids])
        if dead:
            log.error("%d request(s) of %s became dead letters", dead, boot)
        return max(0, int(open_requests))

    def forget(self, boot: str) -> bool:
        """Say goodbye: off the register at once, nothing to wait for."""
        return bool(self._run("forget", None, [boot, "1"]))

    def _run(self, name: str, lane: str | None, args: list[Any]) -> Any:
        keys = self.keys.lane_and_bell(lane) if lane else ()
        return scripts.run(self.client, name, keys, [self.keys.prefix, *args])


def _open(held: bytes) -> tuple[str, str, dict[str, Any], list[str]]:
    """A held delivery as lane, message text, message and the request ids in it."""
    lane, _, text = held.decode().partition("\n")
    message = json.loads(text)
    return lane, text, message, envelope.requests_in(message)


def steady() -> float:
    """Seconds that go on whatever is done to this host's clock, also while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Watchfulness:
    """When a worker may be declared dead: not while, nor soon after, this process itself could not reach Redis.

    After an outage every lease has run out though nobody died; two TTLs let the living renew first.
    """

    def __init__(self, grace: float, uptime: float) -> None:
        """``uptime`` is how long Redis has been up, in seconds."""
        self._grace = grace
        self._since = time.monotonic() - uptime

    def interrupted(self) -> None:
        """Redis did not answer, or answered late."""
        self._since = time.monotonic()

    @property
    def settled(self) -> bool:
        """Whether Redis has been within reach for long enough."""
        return time.monotonic() - self._since >= self._grace


def uptime(info: Mapping[str, Any]) -> float:
    """Seconds since Redis started, from ``INFO server``."""
    return float(info["uptime_in_seconds"])
