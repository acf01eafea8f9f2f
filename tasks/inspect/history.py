"""The last day by the minute, from the scripts' counts.

A past minute does not change, so a process reads it once and keeps its row. A row of several minutes sums up their
histograms, so its percentiles are those of the whole step. Named owners' requests are also counted per owner.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys
from tasks.protocol.owners import ANONYMOUS

STAGES = ("queue", "decode", "infer", "total")
EVENTS = ("accepted", "succeeded", "failed", "canceled", "expired")
COUNTED = (*EVENTS, "compute_seconds")
#: Minutes for which counts are kept in Redis, and rows here.
DAY = 24 * 60
#: Minutes after which a minute is certainly past: this machine's clock need not be Redis's.
OVER = 3
#: Rows kept here, of all owners together: about 1.7 KB each.
KEPT = 20_000

Row = dict[str, Any]
#: The minutes since the epoch of one row.
Span = range


class History:
    """Counts by the minute; thread-safe."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._past: dict[tuple[str | None, Span], Row] = {}

    def rows(self, minutes: int = 60, step: int = 1, owner: str | None = None) -> list[Row]:
        """One row per ``step`` minutes, oldest first, up to a day, of one owner or of all; the last still counts.

        A row has ``at`` (epoch, a multiple of the step), the :data:`COUNTED` of all lanes, and a summary per stage.
        """
        current, past = _current(), self._past
        last = current // step
        spans = (range(n * step, (n + 1) * step) for n in range(last - min(minutes, DAY) // step + 1, last + 1))
        wanted = [(owner, span) for span in spans]
        missing = [row for row in wanted if row not in past]
        counts = iter(self._read([(owner, minute) for _, span in missing for minute in span]))
        read = {(owner, span): _row(span[0] * 60, [next(counts) for _ in span]) for _, span in missing}
        over = {place: row for place, row in read.items() if place[1][-1] <= current - OVER}
        if over:
            kept = [(place, row) for place, row in (past | over).items() if place[1][-1] > current - DAY]
            self._past = dict(kept[-KEPT:])
        return [past.get(place) or read[place] for place in wanted]

    def window(self, seconds: float, owner: str | None = None) -> dict[str, float]:
        """The summary of stage ``total`` over the last ``seconds``, of one owner or of all; empty when nothing ended.

        Seconds are rounded up to minutes.
        """
        found: dict[str, float] = _row(0, self._last(max(1, math.ceil(seconds / 60)), owner))["total"]
        return found if found["count"] else {}

    def ends(self, minutes: int) -> dict[str, tuple[int, int]]:
        """Model -> requests it answered, and failed by its own fault, in the last ``minutes``."""
        found: dict[str, dict[str, int]] = defaultdict(lambda: {"answered": 0, "faults": 0})
        for counts in self._last(minutes):
            for name, value in counts.items():
                lane, kind, model = (*name.split(":", 2), "")[:3]
                if not lane and kind in {"answered", "faults"}:
                    found[model][kind] += value
        return {model: (row["answered"], row["faults"]) for model, row in found.items()}

    def rates(self) -> dict[tuple[str, str], float]:
        """Requests a second ``in`` and ``out`` of each lane, over about the last minute."""
        rates: dict[tuple[str, str], float] = defaultdict(float)
        for counts, weight in zip(self._last(1), _weights(), strict=True):
            for name, value in counts.items():
                lane, _, event = name.partition(":")
                if lane:
                    rates[lane, "in" if event == "accepted" else "out"] += value * weight / 60
        return rates

    def lately(self, owners: Sequence[str]) -> dict[str, Row]:
        """Each owner's rates a second, share of errors and of computing, over about the last minute.

        A share of nothing is None. The anonymous owner has what the others of ``owners`` leave.
        """
        current, named = _current(), [owner for owner in owners if owner != ANONYMOUS]
        read = iter(self._read([(owner, current - ago) for owner in (None, *named) for ago in (1, 0)]))
        total, *rows = ([_row(0, [counts]) for counts in pair] for pair in zip(read, read, strict=True))
        rest = [
            {name: max(0, whole[name] - sum(row[name] for row in others)) for name in COUNTED}
            for whole, *others in zip(total, *rows, strict=True)
        ]
        found = dict(zip(named, rows, strict=True)) | ({ANONYMOUS: rest} if ANONYMOUS in owners else {})
        weights = _weights()
        return {owner: _pace(_over(pair, weights), _over(total, weights)) for owner, pair in found.items()}

    def _last(self, minutes: int, owner: str | None = None) -> list[dict[str, int]]:
        """The counts of the last ``minutes`` and the current one."""
        current = _current()
        return self._read([(owner, minute) for minute in range(current - minutes, current + 1)])

    def _read(self, places: Sequence[tuple[str | None, int]]) -> list[dict[str, int]]:
        """The counts of each owner (None: of all) and minute since the epoch, in one round trip."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for owner, minute in places:
                pipe.hgetall(f"{self._keys.prefix}minute:{minute}" + (f":{owner}" if owner else ""))
            for owner, minute in places:
                if owner:
                    pipe.zcount(self._keys.recent_of(owner), 60 * minute, f"({60 * minute + 60}")
            found = pipe.execute()
        read = [{name.decode(): int(value) for name, value in counts.items()} for counts in found[: len(places)]]
        owned = (counts for (owner, _), counts in zip(places, read, strict=True) if owner)
        for counts, accepted in zip(owned, found[len(places) :], strict=True):
            counts["any:accepted"] = accepted  # its list of recent requests has them for as long
        return read


def _current() -> int:
    return int(time.time() // 60)


def _weights() -> tuple[float, float]:
    """How much of the last full minute, and of the current one, is in the last 60 seconds."""
    return 1 - time.time() % 60 / 60, 1.0


def _over(minutes: Sequence[Row], weights: Sequence[float]) -> Row:
    return {name: sum(row[name] * weight for row, weight in zip(minutes, weights, strict=True)) for name in COUNTED}


def _pace(row: Row, total: Row) -> Row:
    bad, computed = row["failed"] + row["expired"], total["compute_seconds"]
    ended = bad + row["succeeded"]
    return {
        "rate_in": row["accepted"] / 60,
        "rate_out": (ended + row["canceled"]) / 60,
        "errors": bad / ended if ended else None,
        "share": row["compute_seconds"] / computed if computed else None,
    }


def _row(at: int, minutes: Sequence[Mapping[str, int]]) -> Row:
    events = dict.fromkeys(EVENTS, 0)
    stages: dict[str, dict[str, float]] = {stage: defaultdict(float) for stage in STAGES}
    for name, value in (count for counts in minutes for count in counts.items()):
        lane, kind, bucket = (*name.split(":", 2), "")[:3]
        if lane:
            events[kind] = events.get(kind, 0) + value
        elif kind in stages:
            stages[kind][bucket] += value / (1_000_000 if bucket == "sum" else 1)
    computed = sum(counts.get(":computed", 0) for counts in minutes) / 1_000_000
    return {
        "at": at,
        **events,
        "compute_seconds": computed,
        **{stage: summary(buckets) for stage, buckets in stages.items()},
    }


def summary(buckets: Mapping[str, float]) -> dict[str, float]:
    """p50, p95 and p99 in seconds (upper bound of the bucket that holds it), mean and count of one histogram."""
    total = buckets.get("sum", 0.0)
    counts = sorted((int(bucket), count) for bucket, count in buckets.items() if bucket != "sum")
    number = sum(count for _, count in counts)
    found = {"count": number, "mean": round(total / number, 6) if number else 0.0}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        found[name] = _quantile(counts, math.ceil(share * number))
    return found


def _quantile(counts: list[tuple[int, float]], rank: int) -> float:
    """The upper bound, in seconds, of the bucket that holds the observation of this rank."""
    seen = 0.0
    for bucket, count in counts:
        seen += count
        if seen >= rank:
            return 2 ** (bucket / 2) / 1000
    return 0.0
