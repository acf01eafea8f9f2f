"""RabbitMQ carries the messages: quorum queues named like the lanes; everything else stays in Redis.

Redis and RabbitMQ have no transaction together, so a message is handed over in steps, each of which may be repeated:

1. A script leaves the message in the *outbox*, in the same step that accepts (or rescues, gives back) its requests.
2. Its producer's :class:`~tasks.brokers.relay.Relay` publishes it, mandatory and confirmed. What nobody has published
   in two seconds a worker's :class:`~tasks.brokers.sweep.Sweep` publishes.
3. A worker's :class:`~tasks.brokers.puller.Puller` gets it, and writes down in Redis that it holds it before anything
   runs: from there on leases, rescue, fencing and the poison rules are those of the Redis broker, to the line.
4. RabbitMQ hears the acknowledgement after the commit.

A message may arrive twice (a confirmation got lost, a connection broke, a rescuer was quicker than RabbitMQ). ``begin``
lets one delivery run a request and tells the others to drop it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tasks import envelope, scripts
from tasks.brokers import puller
from tasks.brokers.base import CHUNK
from tasks.brokers.letters import express, opened
from tasks.brokers.relay import Relay
from tasks.brokers.sweep import Sweep
from tasks.connections import Kept
from tasks.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from settings import Settings
    from tasks.connections import Client
    from tasks.ownership import Ownership


class RabbitMQ:
    """A :class:`tasks.brokers.Broker`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.keys = Keys(settings.key_prefix, outbox=True)

    def carrier(self) -> Relay:
        """Publishes from a thread of its own: the outbox keeps the promise, so nobody waits for RabbitMQ."""
        return Relay(self._settings, self.keys)

    def attendant(self, owner: Ownership) -> Attendants:
        """The puller and the sweep."""
        return Attendants(puller.employ(self._settings, owner), Sweep(self._settings, self.keys))

    def heads(self, client: Client, lanes: Sequence[str]) -> dict[str, bytes]:
        """The letter that has waited longest for each lane; RabbitMQ itself shows nobody what is in a queue."""
        with client.pipeline(transaction=False) as pipe:
            for name in lanes:
                pipe.zrange(self.keys.waiting(name), 0, 0)
            first = {name: found[0] for name, found in zip(lanes, pipe.execute(), strict=True) if found}
        if not first:
            return {}
        letters = client.hmget(self.keys.letters, list(first.values()))
        return {name: letter.partition(b"\n")[2] for name, letter in zip(first, letters, strict=True) if letter}

    def postpone(self, client: Client, lane: str, ids: Sequence[str], *, retries: int, seconds: float) -> bool:
        """Leave the retry in the outbox until it is due, so that it waits in no worker's memory."""
        from tasks.celery import app

        message = envelope.seal(app, lane, ids, retries=retries)
        scripts.run(client, "postpone", (), [self.keys.prefix, lane, message, seconds])
        return True

    def purge(self, client: Client, lane: str, *, ttl: float, who: str) -> int:
        """What waits in the lane's queue, and what was given back to it and waits in the other."""
        queues = (lane, express(lane))
        return sum(self._purge_queue(client, queue, lane, [ttl, json.dumps(who)]) for queue in queues)

    def _purge_queue(self, client: Client, queue: str, lane: str, how: Sequence[Any]) -> int:
        entries, kept, canceled = client.zrange(self.keys.waiting(queue), 0, -1), Kept(client), 0
        for first in range(0, len(entries), CHUNK):
            some = entries[first : first + CHUNK]
            stored = zip(some, client.hmget(self.keys.letters, some), strict=True)
            letters = [opened(entry, text) for entry, text in stored if text]
            head = [self.keys.prefix, *how]
            calls = [
                ((), [*head, letter.entry, queue, *envelope.requests_in(letter.parsed)])
                for letter in letters
                if letter.lane == lane
            ]
            canceled += sum(scripts.run_and_get(kept, "purge_letter", calls, [])[0])
        return canceled

    def trouble(self, client: Client) -> str | None:
        """What the last process that could not reach RabbitMQ said, within the last seconds."""
        found = client.get(self.keys.trouble)
        return f"RabbitMQ is out of reach, accepted requests wait: {found.decode()}" if found else None


class Attendants:
    """The two that run beside Celery in every worker."""

    def __init__(self, taking: puller.Puller, sweep: Sweep) -> None:
        self._puller = taking
        self._sweep = sweep

    def start(self) -> None:
        """Publish for those who cannot, take when Celery says from where."""
        self._sweep.start()
        self._puller.start()

    def stop(self) -> None:
        """Acknowledge what is done; the lease gives back the rest."""
        self._puller.stop()
        self._sweep.close()
