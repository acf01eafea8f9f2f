"""Redis carries the messages too: scripts push them straight into the lanes' lists, see :mod:`tasks.transport`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tasks import envelope, scripts
from tasks.brokers.base import CHUNK
from tasks.connections import Kept
from tasks.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from settings import Settings
    from tasks.connections import Client
    from tasks.ownership import Ownership


class RedisLists:
    """A :class:`tasks.brokers.Broker` that needs nothing beside the scripts and the channel."""

    def __init__(self, settings: Settings) -> None:
        self.keys = Keys(settings.key_prefix)

    def carrier(self) -> Idle:
        """The script has done it all."""
        return Idle()

    def attendant(self, owner: Ownership) -> Idle:  # noqa: ARG002 - the protocol's
        """Celery's consumer does it all."""
        return Idle()

    def heads(self, client: Client, lanes: Sequence[str]) -> dict[str, bytes]:
        """The last entry of each list: constant time, however long the lane is."""
        with client.pipeline(transaction=False) as pipe:
            for name in lanes:
                pipe.lindex(self.keys.lane(name), -1)
            return {name: head for name, head in zip(lanes, pipe.execute(), strict=True) if head}

    def postpone(self, client: Client, lane: str, ids: Sequence[str], *, retries: int, seconds: float) -> bool:  # noqa: ARG002
        """Celery's retry: whoever holds the message until its time is watched like any holder."""
        return False

    def purge(self, client: Client, lane: str, *, ttl: float, who: str) -> int:
        """Each message is taken out in a step of its own; what comes in meanwhile stays."""
        key, kept, canceled = self.keys.lane(lane), Kept(client), 0
        left = int(client.llen(key))
        while left > 0 and (messages := client.lrange(key, -min(left, CHUNK), -1)):
            head = [self.keys.prefix, ttl, json.dumps(who)]
            calls = [([key], [*head, text, *envelope.requests_in(json.loads(text))]) for text in reversed(messages)]
            canceled += sum(scripts.run_and_get(kept, "purge", calls, [])[0])
            left -= len(messages)
        return canceled

    def trouble(self, client: Client) -> None:
        """When Redis answers, messages move."""


class Idle:
    """A carrier and an attendant with nothing to do."""

    def carry(self, lane: str, message: str) -> None:
        """The message is in its lane."""

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        """Nothing to close."""
