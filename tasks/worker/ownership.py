"""Which deliveries this process holds: what its channel, its pipeline and its lease agree on.

A worker process is known by its *boot id*, ``node name/random``: a restarted worker of the same name is another owner.
Deliveries belong to the process, not to a channel: after a broken connection its threads go on and acknowledge later,
so nothing runs twice. This module talks to no server; :mod:`tasks.worker.registration` does.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from uuid import uuid4


class Ownership:
    """The tags of the deliveries that this process has taken and not acknowledged. Thread-safe."""

    def __init__(self, node: str) -> None:
        self.boot = f"{re.sub(r'[^A-Za-z0-9@._-]', '_', node)}/{uuid4().hex[:8]}"
        self._held: dict[str, int] = {}
        self._unpaid: dict[str, float] = {}
        """By tag: service seconds, less those charged to the requests' owner at the take."""
        self.batch = 1
        """How many requests run at a time."""
        self.most: Callable[[], int] = lambda: 2 * self.batch
        """How many requests to hold: the running pass and one ahead of it."""
        self.cost: Callable[[], float] = lambda: 0.0
        """The service seconds to expect of a request."""
        self.on_room: Callable[[], object] = lambda: None
        """Called from any thread when another delivery may be taken."""
        self._acknowledged: deque[str] = deque()
        self._full = False
        self._look = False
        """Whether a request has ended since the last take, and there is still no room."""
        self._numbers = count(1)
        self._lock = threading.Lock()
        self.taking = True

    def new_tag(self) -> str:
        """A tag for the next take, unique in this process."""
        return str(next(self._numbers))

    def hold(self, tag: str, requests: int = 1, charged: float = 0.0) -> None:
        """A delivery of so many requests has arrived; their owner was charged so many seconds for it."""
        with self._lock:
            self._held[tag] = requests
            self._unpaid[tag] = -charged

    def serve(self, tag: str, seconds: float) -> None:
        """A request of the delivery was served for so many seconds."""
        with self._lock:
            if tag in self._unpaid:
                self._unpaid[tag] += seconds

    def unpaid(self, tag: str) -> float:
        """The seconds that the delivery's owner has still to pay; the caller has it paid."""
        with self._lock:
            return self._unpaid.pop(tag, 0.0)

    def room(self) -> int:
        """How many more requests to take: with more in hand, an urgent one would wait behind them."""
        with self._lock:
            return max(0, self.most() - sum(self._held.values()))

    def has_room(self, places: int) -> bool:
        """Whether one more delivery may be taken, of at most ``places``; without room only an urgent one.

        A message of many requests may exceed the room and would delay urgent ones. So urgent lanes are looked at
        whenever one of its requests has ended.
        """
        room = self.room()
        self._full = room == 0
        return len(self._held) < places and (room > 0 or self._look)

    def full(self) -> bool:
        """Whether there is no room at this take."""
        self._look = False
        return self.room() == 0

    def ended(self, tag: str) -> None:
        """One request of a delivery has ended; the delivery is still held."""
        with self._lock:
            if tag not in self._held:
                return
            self._held[tag] -= 1
        if self._full:
            self._look = not self.room()
            self._full = self._look
            self.on_room()

    def acknowledge(self, tag: str) -> None:
        """The delivery has ended; the next take or renewal of the lease tells Redis.

        If the process dies before that, the delivery is given back, and its next holder finds nothing to do.
        """
        with self._lock:
            self._held.pop(tag, None)
            self._acknowledged.append(tag)

    def release(self, tag: str) -> None:
        """Hold the delivery no longer, without acknowledging it: reconcile gives it back."""
        with self._lock:
            self._held.pop(tag, None)
            self._unpaid.pop(tag, None)

    def acknowledged(self) -> dict[str, float]:
        """The deliveries acknowledged since the last call, each with the seconds that its owner still owes."""
        with self._lock:
            unpaid = {tag: self._unpaid.pop(tag, 0.0) for tag in self._acknowledged}
            self._acknowledged.clear()
        return unpaid

    def known(self) -> frozenset[str]:
        """The tags that are held, or acknowledged and not yet reported."""
        with self._lock:
            return frozenset((*self._held, *self._acknowledged))

    def __len__(self) -> int:
        return len(self._held)


_current: Ownership | None = None


def claim(node: str) -> Ownership:
    """Make this process the worker of this node name, before it opens any broker connection."""
    global _current  # noqa: PLW0603 - a process has one identity
    _current = Ownership(node)
    return _current


def current() -> Ownership | None:
    """This process's identity; None in a producer."""
    return _current
