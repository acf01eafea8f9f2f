"""How many webhooks are on their way to each receiver, so that a slow one holds up nobody else's.

A receiver gets several at a time only after it has answered quickly, and those that have not share a part of the
threads. What is beyond is put off by as long as the ones ahead of it will take.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Webhooks on their way at a time, in one process: in all, and to those that are not known to be quick.
MOST, MOST_SLOW = 32, 24
#: To one receiver: that answers within QUICK seconds, that takes longer, that has not answered yet.
TO_QUICK, TO_SLOW, TO_UNKNOWN = 4, 2, 1
QUICK = 1.0
#: Seconds that a receiver is taken to need before it has answered, and the longest that a webhook is put off.
GUESS, LONGEST = 0.1, 30.0
KEPT = 1000  # receivers


@dataclass(slots=True)
class Receiver:
    """One receiver: what is on its way to it, how long the last took, when what was put off is through."""

    busy: int = 0
    seconds: float | None = None
    free_at: float = 0.0

    @property
    def quick(self) -> bool:
        """Whether its last answer came quickly."""
        return self.seconds is not None and self.seconds < QUICK

    @property
    def most(self) -> int:
        """How many it may get at a time."""
        if self.seconds is None:
            return TO_UNKNOWN
        return TO_QUICK if self.quick else TO_SLOW


class Receivers:
    """The receivers of one process; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Receiver] = OrderedDict()

    def enter(self, name: str) -> float:
        """0 when a webhook may go to ``name`` now, and :meth:`leave` must follow; else the seconds to put it off."""
        with self._lock:
            receiver = self._known.setdefault(name, Receiver())
            self._known.move_to_end(name)
            if receiver.busy < receiver.most and (receiver.quick or self._slow() < MOST_SLOW):
                receiver.busy += 1
                return 0.0
            now = self._clock()
            seconds = GUESS if receiver.seconds is None else receiver.seconds
            receiver.free_at = min(max(now, receiver.free_at) + seconds / receiver.most, now + LONGEST)
            return receiver.free_at - now

    def leave(self, name: str, seconds: float) -> None:
        """A webhook to ``name`` took so long."""
        with self._lock:
            receiver = self._known[name]
            receiver.busy -= 1
            receiver.seconds = seconds
            idle = next((name for name, found in self._known.items() if not found.busy), None)
            if len(self._known) > KEPT and idle is not None:
                del self._known[idle]

    def _slow(self) -> int:
        """How many are on their way to receivers that are not known to be quick."""
        return sum(receiver.busy for receiver in self._known.values() if not receiver.quick)
