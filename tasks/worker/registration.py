"""A living worker in Redis: its lease, and the deliveries it holds."""

from __future__ import annotations

import json
from typing import Any

from common.settings import Settings
from tasks.protocol import envelope, scripts
from tasks.protocol.connections import Client
from tasks.protocol.keys import Keys
from tasks.worker.ownership import Ownership


class Registration:
    """Writes a worker's state to Redis. Every call may be repeated."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self._keys = Keys(settings.key_prefix)
        self._ttl = int(settings.lease_ttl * 1000)
        self._unknown: frozenset[str] = frozenset()

    def renew(self, boot: str, description: str = "", *, register: bool = False) -> dict[str, Any] | None:
        """Renew a lease; the operators' orders for the worker, None when it is not registered.

        ``description`` is its row in the register, as JSON; empty keeps the last one.
        """
        alive, *orders = self._run("renew", None, [boot, self._ttl, description, int(register)])
        if not alive:
            return None
        return {name.decode(): json.loads(value) for name, value in zip(orders[::2], orders[1::2], strict=True)}

    def report(self, owner: Ownership) -> None:
        """Remove the deliveries that were acknowledged since the last take."""
        if tags := owner.acknowledged():
            self.client.hdel(self._keys.unacked(owner.boot), *tags)

    def reconcile(self, owner: Ownership) -> int:
        """Give back deliveries that Redis has for this process and the process does not know; how many.

        A tag counts only when it was unknown at the last call too: the reply that brings it may be on its way.
        """
        written = {tag.decode() for tag in self.client.hkeys(self._keys.unacked(owner.boot))}
        unknown = frozenset(written - owner.known())
        orphans, self._unknown = unknown & self._unknown, unknown
        return sum(self._give_back(owner.boot, tag) for tag in sorted(orphans, key=int))

    def leave(self, owner: Ownership) -> None:
        """Give back all deliveries and unregister, so that no request waits for the lease to expire."""
        self.report(owner)
        tags = self.client.hkeys(self._keys.unacked(owner.boot))
        for tag in sorted(tags, key=int, reverse=True):  # the latest first: the lane's head keeps its order
            self._give_back(owner.boot, tag.decode())
        self._run("forget", None, [owner.boot, "1"])

    def _give_back(self, boot: str, tag: str) -> bool:
        held = self.client.hget(self._keys.unacked(boot), tag)
        if held is None:
            return False
        lane, text, ids = envelope.unpack(held)
        return bool(self._run("give_back", lane, [boot, tag, text, "0", *ids]))

    def _run(self, name: str, lane: str | None, args: list[Any]) -> Any:
        keys = self._keys.lane_and_bell(lane) if lane else ()
        return scripts.run(self.client, name, keys, [self._keys.prefix, *args])
