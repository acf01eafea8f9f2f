"""A load test that a person can start from the page: bounded, watched live, stopped at will, one at a time.

Users who each wait for an answer before they ask again, as many as ``concurrency``; :mod:`inferlane.traffic` sends.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from dashboard import photo
from inferlane import AsyncClient, traffic
from inferlane.images import Upload
from inferlane.retries import ONCE
from inferlane.traffic import Shot, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from inferlane.operations import Parameters
    from inferlane.traffic import Account, Ended

MOST_REQUESTS = 2000
MOST_CONCURRENT = 32
#: Seconds that one caller waits.
PATIENCE = 40.0
KEPT = 5
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
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
        requests = _whole(given, "requests", MOST_REQUESTS)
        return cls(requests, _whole(given, "concurrency", MOST_CONCURRENT), _models(given), _priority(given))


def _whole(given: Mapping[str, Any], name: str, most: int) -> int:
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}")
    return value


def _models(given: Mapping[str, Any]) -> tuple[str, ...]:
    models = given.get("models") or ["any"]
    if not isinstance(models, list) or not all(map(_is_name, models)):
        raise ValueError("models must be a list of names")
    return tuple(models[:20])


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 200 and value.isprintable()


def _priority(given: Mapping[str, Any]) -> str:
    value = str(given.get("priority") or "normal")
    if value not in {"high", "normal", "low"}:
        raise ValueError("priority must be high, normal or low")
    return value


class LoadTest:
    """One run, in a thread. It ends with the plan, with :meth:`stop`, and with the process."""

    def __init__(self, client: Callable[[], AsyncClient], plan: Plan) -> None:
        self.plan = plan
        self._client = client
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seconds: list[float] = []
        self._codes: Counter[str] = Counter()
        self._began, self._ended = time.monotonic(), math.inf
        self._thread = threading.Thread(target=lambda: asyncio.run(self._drive()), name="load-test", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether requests are under way."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Send nothing more and wait for the answers to what was sent."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for the run to end."""
        self._thread.join(timeout)

    async def _drive(self) -> None:
        async with self._client() as client:
            users = traffic.users(self.plan.requests)
            await traffic.drive(client, self._shots(), users, in_flight=self.plan.concurrency, on_end=self._count)

    def _shots(self) -> Iterator[Shot]:
        """A request after the other: no two photos have the same bytes, and the models take turns."""
        for number, model in zip(range(self.plan.requests), itertools.cycle(self.plan.models), strict=False):
            if self._stop.is_set():
                return
            parameters: Parameters = {"model": model, "priority": self.plan.priority, "top_k": 1}
            yield Shot(Upload(photo.copy(f"{self._began}-{number}")), parameters)

    def _count(self, _account: Account, ended: Ended | None) -> None:
        if ended is None:
            return
        with self._lock:
            self._codes[ended.code or "ok"] += 1
            self._seconds.append(ended.latency)
            self._ended = time.monotonic()

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
            **{name: _milliseconds(percentile(seconds, share)) for name, share in SHARES.items()},
            "histogram": histogram(seconds),
        }


class LoadTests:
    """The run of the moment and the results of the last few."""

    def __init__(self, base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Load goes to the API at ``base_url``; ``transport`` is for tests."""
        self._base_url, self._transport = base_url, transport
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
            self._runs.append(LoadTest(partial(self._client, key), plan))

    def _client(self, key: str) -> AsyncClient:
        """A client that sends once: a retry would hide what a load test is to show. No proxy lies between us."""
        transport = self._transport or httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=MOST_CONCURRENT))
        return AsyncClient(self._base_url, key or None, timeout=PATIENCE, retries=ONCE, transport=transport)

    def stop(self) -> None:
        """Stop the one that runs, if one does."""
        with self._lock:
            if self._runs:
                self._runs[-1].stop()

    def documents(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return [run.document() for run in reversed(self._runs)]


def histogram(seconds: Sequence[float]) -> list[dict[str, Any]]:
    """How many answers took up to each bound: rows ``{"bar": "≤ 50 ms", "requests": 12}``."""
    counts = [0] * (len(BARS) + 1)
    for value in seconds:
        counts[next((i for i, bound in enumerate(BARS) if value * 1000 <= bound), len(BARS))] += 1
    names = [f"≤ {bound} ms" if bound < 1000 else f"≤ {bound // 1000} s" for bound in BARS] + ["longer"]
    return [{"bar": name, "requests": number} for name, number in zip(names, counts, strict=True)]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
