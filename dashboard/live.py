"""The last minute, second by second, from the differences between snapshots that the pages poll anyway."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from dashboard.formatting import count, duration, epoch, milliseconds, rate

WINDOW = 60.0
#: Seconds between two points at least; snapshots may come faster.
STEP = 0.5
NAMES = ("accepted", "answered", "failed", "timed", "seconds")
#: Minute -> its counts, in the order of :data:`NAMES`.
Counts = dict[int, tuple[float, ...]]


class LiveMinute:
    """Keeps the points of one sequence of snapshots; not thread-safe.

    A point has ``at`` (epoch seconds, its end), ``span`` (its seconds: longer when no page polled), the numbers of
    requests accepted, answered and failed, and their mean latency in milliseconds, None without an answer.
    """

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque()
        self._before: tuple[float, Counts] | None = None

    def add(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """The minute up to this snapshot: points, and a sentence for each of its two charts."""
        now, counts = epoch(snapshot["as_of"]) or 0.0, _counts(snapshot["history"][-2:])
        began, before = self._before or (now, counts)
        if now - began >= STEP or self._before is None:
            if 0 < now - began <= WINDOW:
                self._points.append(_point(now, now - began, before, counts))
            self._before = now, counts
        while self._points and self._points[0]["at"] - self._points[0]["span"] < now - WINDOW:
            self._points.popleft()
        return {"points": list(self._points), **_sentences(self._points)}


def _counts(history: Iterable[Mapping[str, Any]]) -> Counts:
    return {
        row["at"]: (
            row["accepted"],
            row["succeeded"],
            row["failed"] + row["expired"],
            row["total"]["count"],
            row["total"]["count"] * row["total"]["mean"],
        )
        for row in history
    }


def _point(now: float, span: float, before: Counts, counts: Counts) -> dict[str, Any]:
    nothing = (0.0,) * len(NAMES)
    gains = [
        max(0.0, sum(row[place] - before.get(at, nothing)[place] for at, row in counts.items()))
        for place in range(len(NAMES))
    ]
    gained = dict(zip(NAMES, gains, strict=True))
    timed, seconds = gained.pop("timed"), gained.pop("seconds")
    return {"at": now, "span": round(span, 3), **gained, "latency": milliseconds(seconds / timed if timed else None)}


def _sentences(points: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    total = {name: sum(point[name] for point in points) for name in NAMES[:3]}
    covered = sum(point["span"] for point in points)
    window = "minute" if covered > WINDOW - 3 else duration(covered)
    timed = [point for point in points if point["latency"] is not None]
    if not any(total.values()):
        return {"rate": f"No requests in the last {window}.", "latency": f"Nothing ended in the last {window}."}
    peak = max(point["answered"] / point["span"] for point in points)
    failed = f"{total['failed']:,.0f} failed" if total["failed"] else "none failed"
    numbers = f"{count(total['accepted'], 'request')}, {total['answered']:,.0f} answered, {failed}"
    slowest = max((point["latency"] for point in timed), default=None)
    return {
        "rate": f"In the last {window}: {numbers}. Peak: {rate(peak)}.",
        "latency": "Nothing ended yet."
        if slowest is None
        else f"Now {duration(timed[-1]['latency'] / 1000)}; in the slowest second {duration(slowest / 1000)}.",
    }
