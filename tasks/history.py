"""The past by the minute: what the scripts counted in each, for a day. It changes nothing, ever.

A minute that is over does not change, so a process reads each one once and keeps the row it made of it.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.connections import Client, translated
from tasks.keys import Keys

STAGES = ("queue", "decode", "infer", "total")
EVENTS = ("accepted", "succeeded", "failed", "canceled", "expired")
#: Minutes in Redis, and of rows kept here.
DAY = 24 * 60
#: A minute is certainly over when it is this many behind: this machine's clock need not be Redis's.
OVER = 3

Row = dict[str, Any]


class History:
    """Rows of minutes; threads may share one."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._kept: dict[int, Row] = {}

    def rows(self, minutes: int) -> list[Row]:
        """One row per minute, oldest first: ``at`` (epoch), the :data:`EVENTS` of all lanes, a summary per stage."""
        current = int(time.time() // 60)
        wanted = range(current - minutes + 1, current + 1)
        missing = [minute for minute in wanted if minute not in self._kept]
        read = {m: _row(m * 60, entries) for m, entries in zip(missing, self.read(missing), strict=True)}
        found = [self._kept.get(minute) or read[minute] for minute in wanted]
        kept = {**self._kept, **{minute: row for minute, row in read.items() if minute <= current - OVER}}
        self._kept = {minute: row for minute, row in kept.items() if minute > current - DAY}
        return found

    def read(self, minutes: Sequence[int]) -> list[dict[bytes, bytes]]:
        """What was counted in each of these minutes since the epoch, in one round trip."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for minute in minutes:
                pipe.hgetall(f"{self._keys.prefix}minute:{minute}")
            return list(pipe.execute())


def _row(at: int, entries: Mapping[bytes, bytes]) -> Row:
    events = dict.fromkeys(EVENTS, 0)
    stages: dict[str, dict[str, float]] = {stage: defaultdict(float) for stage in STAGES}
    for field, value in entries.items():
        lane, _, name = field.decode().partition(":")
        stage, _, bucket = name.partition(":")
        if lane:
            events[name] = events.get(name, 0) + int(value)
        elif stage in stages:
            stages[stage][bucket] += int(value)
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
