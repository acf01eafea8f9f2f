"""Which workers came and went while the dashboard was looking: the API lists only those that live.

Kept in the memory of this process, bounded, and lost with it: the workers' own logs are the record.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Lines kept, and the seconds for which a worker that has gone is still shown.
LINES = 50
SHOWN = 600.0


@dataclass(frozen=True, slots=True)
class Departure:
    """A worker that is not listed any more, as it was when last seen."""

    worker: str
    model: str
    at: float
    in_flight: int
    drained: bool

    def text(self) -> str:
        """What became of it, as far as can be seen from here."""
        if self.drained and not self.in_flight:
            return "left after draining"
        if self.in_flight:
            return f"is gone with {self.in_flight} in flight: others finish that"
        return "is gone"


class Comings:
    """Compares each list of workers with the one before."""

    def __init__(self) -> None:
        self._known: dict[str, Mapping[str, Any]] | None = None
        self._departed: dict[str, Departure] = {}
        self._lines: deque[dict[str, Any]] = deque(maxlen=LINES)

    def look(self, workers: Sequence[Mapping[str, Any]], now: float) -> None:
        """Take note of who is there at ``now`` (epoch seconds); the first look only learns who is."""
        present = {worker["id"]: worker for worker in workers}
        if self._known is not None:
            for name in present.keys() - self._known.keys():
                self._tell(now, f"worker {name} ({present[name]['model']}) is there")
            for name in self._known.keys() - present.keys():
                self._leave(self._known[name], now)
        self._known = present
        kept = {name: gone for name, gone in self._departed.items() if name not in present and now - gone.at < SHOWN}
        self._departed = kept

    def _leave(self, worker: Mapping[str, Any], now: float) -> None:
        drained = worker["state"] == "draining"
        gone = Departure(worker["id"], worker["model"], now, worker["in_flight"], drained)
        self._departed[gone.worker] = gone
        self._tell(now, f"worker {gone.worker} {gone.text()}")

    def _tell(self, at: float, what: str) -> None:
        self._lines.appendleft({"at": at, "what": what, "who": "seen by the dashboard"})

    def lines(self) -> list[dict[str, Any]]:
        """What happened, newest first, as lines of the activity log."""
        return list(self._lines)

    def departed(self) -> list[dict[str, Any]]:
        """Who went in the last minutes, as JSON."""
        return [
            {"id": gone.worker, "model": gone.model, "at": gone.at, "text": gone.text()}
            for gone in sorted(self._departed.values(), key=lambda gone: -gone.at)
        ]
