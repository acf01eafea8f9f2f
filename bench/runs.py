"""One measurement: callers that each ask again as soon as they are answered, for a given time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench.statistics import percentile

Cpu = Callable[[], Mapping[str, float]]
"""CPU seconds used so far, by the name of a part of the system."""


@dataclass(frozen=True)
class MeasuredRun:
    """The answers of a run, its duration, cost and latencies (all times in seconds)."""

    answered: int
    seconds: float
    latencies: list[float]
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    caller_cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    def to_json(self) -> dict[str, Any]:
        """The run as the journal keeps it: rates, milliseconds, core-milliseconds per answer."""
        per_answer = 1000 / max(1, self.answered)
        return {
            "answered": self.answered,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 2),
            "core_ms": {name: round(value * per_answer, 3) for name, value in self.cpu_seconds.items()},
            "caller_core_ms": round(self.caller_cpu_seconds * per_answer, 3),
            "p50_ms": round(1000 * percentile(self.latencies, 0.50), 2),
            "p90_ms": round(1000 * percentile(self.latencies, 0.90), 2),
            "p99_ms": round(1000 * percentile(self.latencies, 0.99), 2),
        }


def closed_loop(
    once: Callable[[], int], concurrency: int, seconds: float, cpu: Cpu, *, warm: float | None = None
) -> MeasuredRun:
    """Call ``once``, which returns how many answers it got, from ``concurrency`` threads for ``seconds``.

    Every caller finishes what it has begun, and the time runs until the last has: while a system has work it is not
    idle, so neither end of the run flatters it or does it wrong. ``warm`` seconds before that, by default a second or
    as long as the run if that is shorter, are not counted.
    """
    with ThreadPoolExecutor(concurrency) as threads:
        _ask(threads, once, concurrency, min(1.0, seconds) if warm is None else warm)
        before, own, began = cpu(), time.process_time(), time.perf_counter()
        asked = _ask(threads, once, concurrency, seconds)
        elapsed, own, after = time.perf_counter() - began, time.process_time() - own, cpu()
    return MeasuredRun(
        answered=sum(count for count, _ in asked),
        seconds=elapsed,
        latencies=[latency for _, latency in asked],
        cpu_seconds={name: after[name] - before[name] for name in after},
        caller_cpu_seconds=own,
    )


def _ask(
    threads: ThreadPoolExecutor, once: Callable[[], int], concurrency: int, seconds: float
) -> list[tuple[int, float]]:
    ends = time.perf_counter() + seconds
    parts = threads.map(lambda _: _until(ends, once), range(concurrency))
    return [pair for part in parts for pair in part]


def _until(ends: float, once: Callable[[], int]) -> list[tuple[int, float]]:
    """The answers and the latency of every call begun before ``ends``; at least one."""
    asked = []
    while True:
        began = time.perf_counter()
        asked.append((once(), time.perf_counter() - began))
        if time.perf_counter() >= ends:
            return asked
