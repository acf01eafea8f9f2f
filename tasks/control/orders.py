"""Operators' orders: pause, resume or purge a lane; drain or restart a worker; inject a fault.

An order to a worker is a key in Redis that the worker reads with every renewal of its lease. So it takes effect within
LEASE_RENEW, and outlives the process that gave it.
"""

from __future__ import annotations

import json
import time
from typing import Any

from common.settings import Settings
from tasks.protocol import connections, envelope, scripts
from tasks.protocol.connections import PinnedClient, translated
from tasks.protocol.keys import Keys
from tasks.protocol.records import ttls
from tasks.protocol.turns import messages

#: Messages that one round trip of a purge takes out.
CHUNK = 200


class Controls:
    """Gives orders; workers are named by node name. Every method raises BrokerUnavailable without Redis."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings.key_prefix)
        self._client = connections.prompt(settings.redis_url)
        self._ttls = ttls(settings)

    def pause(self, lane: str, who: str) -> None:
        """Take nothing from this lane until it is resumed; it still accepts."""
        note = json.dumps({"by": who, "at": time.time()})
        with translated():
            self._client.hset(self._keys.paused, lane, note)

    def resume(self, lane: str) -> None:
        """Take from this lane again, starting now."""
        with translated():
            scripts.run(self._client, "resume", self._keys.lane_and_bell(lane), [self._keys.prefix, lane])

    def purge(self, lane: str, who: str) -> int:
        """Cancel the requests queued in this lane now; how many were canceled.

        Deliveries and retries that are not due are not in the lane and go on; so do requests accepted meanwhile.
        """
        key, pinned, canceled = self._keys.lane(lane), PinnedClient(self._client), 0
        head = [self._keys.prefix, self._ttls, json.dumps(who)]
        with translated():
            # Oldest first, and the lane's own list before its tickets go.
            found = [*messages(self._client, self._keys, lane)][::-1]
            found.sort(key=lambda place: place[0] != key)
            for start in range(0, len(found), CHUNK):
                calls = [
                    ([key, where], [*head, text, *envelope.requests_in(json.loads(text))])
                    for where, text in found[start : start + CHUNK]
                ]
                canceled += sum(scripts.run_and_get(pinned, "purge", calls)[0])
        return canceled

    def restart(self, worker: str, boot: str) -> None:
        """Let this worker finish its deliveries and exit, for its supervisor to start it again.

        The order is for this ``boot`` alone: the next process of that name ignores it.
        """
        self._order(worker, "restart", {"boot": boot})

    def drain(self, worker: str) -> None:
        """Let this worker finish its deliveries and take no more."""
        self._order(worker, "drain", True)

    def undrain(self, worker: str) -> None:
        """Let it take again."""
        with translated():
            self._client.hdel(self._keys.orders(worker), "drain")

    def chaos(self, worker: str, mode: str, *, seconds: float = 1.0, rate: float = 1.0) -> None:
        """Inject a fault into a worker that runs with CHAOS_ENABLED; see :mod:`tasks.worker.chaos` for the modes."""
        self._order(worker, "chaos", {"id": time.time_ns(), "mode": mode, "seconds": seconds, "rate": rate})

    def _order(self, worker: str, name: str, value: Any) -> None:
        with translated():
            self._client.hset(self._keys.orders(worker), name, json.dumps(value))
