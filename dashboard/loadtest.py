"""A load test that a person can start from the page: bounded, watched live, stopped at will, one at a time.

Each of ``concurrency`` threads sends one request after the other and waits for its answer, like that many callers.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dashboard import photo
from dashboard.upstream import Refused, Upstream, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_REQUESTS = 2000
MOST_CONCURRENT = 32
#: Seconds that one caller waits.
PATIENCE = 40.0
KEPT = 5
#: Upper bounds of the histogram, in milliseconds; the last bar is open.
BARS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Busy(ValueError):
    """One is running already."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: how many requests, by how many callers at once, for which models in turn."""

    requests: int
    concurrency: int
    models: tuple[str, ...]
    priority: str = "normal"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Plan:
        """A plan within the bounds.

        Raises:
            ValueError: a number is out of bounds or missing; says which.
        """
        models = tuple(str(model) for model in given.get("models") or ["any"])[:20]
        requests = _whole(given, "requests", MOST_REQUESTS)
        return cls(requests, _whole(given, "concurrency", MOST_CONCURRENT), models, _priority(given))


def _whole(given: Mapping[str, Any], name: str, most: int) -> int:
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}")
    return value


def _priority(given: Mapping[str, Any]) -> str:
    value = str(given.get("priority") or "normal")
    if value not in {"high", "normal", "low"}:
        raise ValueError("priority must be high, normal or low")
    return value


class LoadTest:
    """One run. Its threads end with the plan, with :meth:`stop`, and with the process."""

    def __init__(self, upstream: Upstream, plan: Plan, key: str) -> None:
        self.plan = plan
        self._upstream, self._key = upstream, key
        self._numbers = iter(range(plan.requests))
        self._models = itertools.cycle(plan.models)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seconds: list[float] = []
        self._codes: Counter[str] = Counter()
        self._began, self._ended = time.monotonic(), math.inf
        self._callers = [
            threading.Thread(target=self._call_on, name=f"load-{number}", daemon=True)
            for number in range(min(plan.concurrency, plan.requests))
        ]
        for caller in self._callers:
            caller.start()

    @property
    def running(self) -> bool:
        """Whether a caller is still at it."""
        return any(caller.is_alive() for caller in self._callers)

    def stop(self) -> None:
        """Send nothing more; what was sent is waited for."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for the callers to end."""
        ends = time.monotonic() + timeout
        for caller in self._callers:
            caller.join(max(0.0, ends - time.monotonic()))

    def _call_on(self) -> None:
        while not self._stop.is_set() and (turn := self._next()) is not None:
            began = time.monotonic()
            code = self._send(*turn)
            with self._lock:
                self._codes[code] += 1
                self._seconds.append(time.monotonic() - began)
                self._ended = time.monotonic()

    def _next(self) -> tuple[int, str] | None:
        with self._lock:
            number = next(self._numbers, None)
            return None if number is None else (number, next(self._models))

    def _send(self, number: int, model: str) -> str:
        """How one request went: ``ok``, ``202`` (not finished in time), or the code of its error."""
        try:
            answer = self._upstream.call(
                "POST", "/inference", key=self._key, timeout=PATIENCE,
                params={"model_type": model, "priority": self.plan.priority, "top_k": 1},
                content=photo.copy(f"{self._began}-{number}"), headers={"Content-Type": photo.MEDIA_TYPE},
            )  # fmt: skip
        except Refused as error:
            return str(error.problem.get("code", error.status))
        except UpstreamError as error:
            return error.state
        return "ok" if answer.status == 200 else str(answer.status)

    def document(self) -> dict[str, Any]:
        """How it goes, as JSON; durations are milliseconds."""
        running = self.running
        with self._lock:
            seconds, codes, ended = sorted(self._seconds), dict(self._codes), self._ended
        elapsed = (time.monotonic() if running else min(ended, time.monotonic())) - self._began
        return {
            "state": "running" if running else "stopped" if self._stop.is_set() else "done",
            "plan": asdict(self.plan),
            "done": len(seconds),
            "ok": codes.get("ok", 0),
            "codes": codes,
            "elapsed": round(elapsed, 2),
            "rate": round(len(seconds) / elapsed, 1) if elapsed > 0 else 0.0,
            **{name: quantile(seconds, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
            "histogram": histogram(seconds),
        }


class LoadTests:
    """The run of the moment and the results of the last few."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._runs: deque[LoadTest] = deque(maxlen=KEPT)

    def start(self, plan: Plan, key: str) -> None:
        """Begin.

        Raises:
            Busy: one is running.
        """
        with self._lock:
            if self._runs and self._runs[-1].running:
                raise Busy("a load test is running: stop it first")
            self._runs.append(LoadTest(self._upstream, plan, key))

    def stop(self) -> None:
        """Stop the one that runs, if one does."""
        with self._lock:
            if self._runs:
                self._runs[-1].stop()

    def documents(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return [run.document() for run in reversed(self._runs)]


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank quantile of ordered seconds, in milliseconds."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000, 1)


def histogram(seconds: Sequence[float]) -> list[dict[str, Any]]:
    """How many answers took up to each bound: rows ``{"bar": "≤ 50 ms", "requests": 12}``."""
    counts = [0] * (len(BARS) + 1)
    for value in seconds:
        counts[next((i for i, bound in enumerate(BARS) if value * 1000 <= bound), len(BARS))] += 1
    names = [f"≤ {bound} ms" if bound < 1000 else f"≤ {bound // 1000} s" for bound in BARS] + ["longer"]
    return [{"bar": name, "requests": number} for name, number in zip(names, counts, strict=True)]
