"""What the rest of the project asks of a broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

#: Messages that one round trip of a purge takes out.
CHUNK = 200

if TYPE_CHECKING:
    from tasks.connections import Client
    from tasks.keys import Keys
    from tasks.ownership import Ownership


class Carrier(Protocol):
    """A producer's end. Thread-safe; one per process."""

    def carry(self, lane: str, message: str) -> None:
        """A script has just left this message for its lane; never raises, because the request is accepted."""

    def close(self) -> None:
        """Let go of threads and connections."""


class Attendant(Protocol):
    """A worker's end: what has to run beside Celery's own consumer."""

    def start(self) -> None:
        """Once, when the worker is registered and before Celery consumes."""

    def stop(self) -> None:
        """Once, when the pool has finished and before the lease ends."""


class Broker(Protocol):
    """What carries messages."""

    @property
    def keys(self) -> Keys:
        """Key names, with the places where scripts put messages for this broker."""

    def carrier(self) -> Carrier:
        """A new carrier; it opens connections when it is first used, so it survives a fork before that."""

    def attendant(self, owner: Ownership) -> Attendant:
        """What a worker process runs beside Celery."""

    def heads(self, client: Client, lanes: Sequence[str]) -> dict[str, bytes]:
        """The stored message that each lane serves next; lanes without one are left out.

        Raises:
            redis.RedisError
        """

    def postpone(self, client: Client, lane: str, ids: Sequence[str], *, retries: int, seconds: float) -> bool:
        """Deliver these requests again after a while; False when Celery's own retry does that well enough."""

    def purge(self, client: Client, lane: str, *, ttl: float, who: str) -> int:
        """Cancel what waits in this lane now; how many requests that were.

        Args:
            client: Redis.
            lane: its name.
            ttl: seconds for which the canceled requests' records stay.
            who: named in their timelines.

        Raises:
            redis.RedisError
        """

    def trouble(self, client: Client) -> str | None:
        """Why messages do not move though Redis answers, as a sentence; None when they do."""
