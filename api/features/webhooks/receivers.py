"""Concurrency per receiver, so that a slow one does not delay others.

A receiver gets several calls at a time only after a quick answer; the others share a part of the threads. Further
calls are deferred by the expected duration of those ahead of them.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: Concurrent calls of one process: in all, and to receivers not known to be quick.
MOST, MOST_SLOW = 32, 24
#: Concurrent calls to a receiver that answers within QUICK seconds, that is slower, that has not answered yet.
TO_QUICK, TO_SLOW, TO_UNKNOWN = 4, 2, 1
QUICK = 1.0
#: Seconds assumed for a receiver's first answer, and the longest deferral.
GUESS, LONGEST = 0.1, 30.0
KEPT = 1000  # receivers


@dataclass(slots=True)
class Receiver:
    """One receiver: calls in flight, duration of the last, when the deferred ones are due."""

    busy: int = 0
    seconds: float | None = None
    free_at: float = 0.0

    @property
    def most(self) -> int:
        """Its concurrency limit."""
        if self.seconds is None:
            return TO_UNKNOWN
        return TO_QUICK if self.seconds < QUICK else TO_SLOW


class Receivers:
    """The receivers of one process; threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Receiver] = OrderedDict()

    def enter(self, name: str) -> float:
        """0 if a call to ``name`` may start now, which :meth:`leave` must end; else the seconds to defer it."""
        with self._lock:
            receiver = self._known.setdefault(name, Receiver())
            self._known.move_to_end(name)
            if receiver.busy < receiver.most and (receiver.most == TO_QUICK or self._slow() < MOST_SLOW):
                receiver.busy += 1
                return 0.0
            now = self._clock()
            seconds = GUESS if receiver.seconds is None else receiver.seconds
            receiver.free_at = min(max(now, receiver.free_at) + seconds / receiver.most, now + LONGEST)
            return receiver.free_at - now

    def leave(self, name: str, seconds: float) -> None:
        """End a call to ``name`` that took so long."""
        with self._lock:
            receiver = self._known[name]
            receiver.busy -= 1
            receiver.seconds = seconds
            idle = next((name for name, found in self._known.items() if not found.busy), None)
            if len(self._known) > KEPT and idle is not None:
                del self._known[idle]

    def _slow(self) -> int:
        """Calls in flight to receivers not known to be quick."""
        return sum(receiver.busy for receiver in self._known.values() if receiver.most < TO_QUICK)
