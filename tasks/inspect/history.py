"""The past by the minute: what the scripts counted in each, for a day. It changes nothing, ever.

A minute that is over does not change, so a process reads each one once and keeps the row it made of it. Long times are
told in longer steps: a row of five minutes sums up their histograms, so its percentiles are those of all of it.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys

STAGES = ("queue", "decode", "infer", "total")
EVENTS = ("accepted", "succeeded", "failed", "canceled", "expired")
#: Minutes in Redis, and of rows kept here.
DAY = 24 * 60
#: A minute is certainly over when it is this many behind: this machine's clock need not be Redis's.
OVER = 3

Row = dict[str, Any]
#: Minutes since the epoch that one row tells of.
Span = range


class History:
    """Rows of minutes; threads may share one."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._kept: dict[Span, Row] = {}

    def rows(self, minutes: int, step: int = 1) -> list[Row]:
        """One row per ``step`` minutes, oldest first, the last for those that still run.

        A row has ``at`` (epoch, a multiple of the step), the :data:`EVENTS` of all lanes, and a summary per stage.
        """
        current, kept = int(time.time() // 60), self._kept
        last = current // step
        wanted = [range(n * step, (n + 1) * step) for n in range(last - minutes // step + 1, last + 1)]
        read = self._sum([span for span in wanted if span not in kept])
        over = {span: row for span, row in read.items() if span[-1] <= current - OVER}
        self._kept = {span: row for span, row in (kept | over).items() if span[-1] > current - DAY}
        return [kept.get(span) or read[span] for span in wanted]

    def total(self, minutes: int) -> dict[str, float]:
        """The summary of stage ``total`` over the last ``minutes``, the one that still runs and one before included."""
        current = int(time.time() // 60)
        row: dict[str, float] = _row(0, self.read(range(current - minutes, current + 1)))["total"]
        return row

    def ends(self, minutes: int) -> dict[str, tuple[int, int]]:
        """Model -> requests that it answered, and that failed by its fault, in the last ``minutes`` and this one."""
        current = int(time.time() // 60)
        found: dict[str, dict[str, int]] = defaultdict(lambda: {"answered": 0, "faults": 0})
        for entries in self.read(range(current - minutes, current + 1)):
            for field, value in entries.items():
                lane, _, name = field.decode().partition(":")
                kind, _, model = name.partition(":")
                if not lane and kind in {"answered", "faults"}:
                    found[model][kind] += int(value)
        return {model: (row["answered"], row["faults"]) for model, row in found.items()}

    def _sum(self, spans: Sequence[Span]) -> dict[Span, Row]:
        minutes = [minute for span in spans for minute in span]
        entries = dict(zip(minutes, self.read(minutes), strict=True))
        return {span: _row(span[0] * 60, [entries[minute] for minute in span]) for span in spans}

    def read(self, minutes: Sequence[int]) -> list[dict[bytes, bytes]]:
        """What was counted in each of these minutes since the epoch, in one round trip."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for minute in minutes:
                pipe.hgetall(f"{self._keys.prefix}minute:{minute}")
            return list(pipe.execute())


def _row(at: int, minutes: Sequence[Mapping[bytes, bytes]]) -> Row:
    events = dict.fromkeys(EVENTS, 0)
    stages: dict[str, dict[str, float]] = {stage: defaultdict(float) for stage in STAGES}
    for field, value in (entry for entries in minutes for entry in entries.items()):
        lane, _, name = field.decode().partition(":")
        stage, _, bucket = name.partition(":")
        if lane:
            events[name] = events.get(name, 0) + int(value)
        elif stage in stages:
            stages[stage][bucket] += int(value) / (1_000_000 if bucket == "sum" else 1)
    return {"at": at, **events, **{stage: summary(buckets) for stage, buckets in stages.items()}}


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
