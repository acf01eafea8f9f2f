"""A load test started from the page: bounded, watched live, stopped at will.

``concurrency`` users, each waiting for an answer before the next request; :mod:`inferlane.traffic` sends.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from dashboard import photo
from dashboard.formatting import milliseconds
from dashboard.runs import BackgroundRun, whole_number
from inferlane import AsyncClient, traffic
from inferlane.images import Upload
from inferlane.operations import Parameters
from inferlane.retries import ONCE
from inferlane.traffic import Account, Ended, Shot, percentile

MOST_REQUESTS = 2000
MOST_CONCURRENT = 32
MOST_MODELS = 20
#: Seconds that one user waits for an answer.
TIMEOUT = 40.0
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
#: Upper bounds of the histogram, in milliseconds; the last bar is open.
BARS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
BAR_NAMES = [*(f"≤ {bound} ms" if bound < 1000 else f"≤ {bound // 1000} s" for bound in BARS), "longer"]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How many requests, from how many users at once, for which models in turn."""

    requests: int
    concurrency: int
    models: tuple[str, ...]
    priority: str = "normal"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> LoadPlan:
        """The plan in an order of the page; ValueError names a member that is missing or out of bounds."""
        models, priority = given.get("models") or ["any"], given.get("priority") or "normal"
        if not isinstance(models, list) or not all(map(_is_name, models)):
            raise ValueError("models must be a list of names")
        if priority not in ("high", "normal", "low"):
            raise ValueError("priority must be high, normal or low")
        requests = whole_number(given, "requests", MOST_REQUESTS)
        concurrency = whole_number(given, "concurrency", MOST_CONCURRENT)
        return cls(requests, concurrency, tuple(models[:MOST_MODELS]), priority)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 200 and value.isprintable()


def single_try_client(
    base_url: str, key: str = "", transport: httpx.AsyncBaseTransport | None = None, timeout: float = TIMEOUT
) -> AsyncClient:
    """A client without retries, which would hide failures from a load test, and without a proxy."""
    transport = transport or httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=MOST_CONCURRENT))
    return AsyncClient(base_url, key or None, timeout=timeout, retries=ONCE, transport=transport)


class LoadTest(BackgroundRun):
    """One load test; when stopped, it waits for the answers to requests already sent."""

    def __init__(self, client: Callable[[], AsyncClient], plan: LoadPlan) -> None:
        self._client, self._plan = client, plan
        self._began, self._elapsed = time.monotonic(), 0.0
        self._latencies: list[float] = []
        self._codes: Counter[str] = Counter()
        super().__init__()

    def work(self) -> None:
        """Send all requests."""
        asyncio.run(self._drive())

    async def _drive(self) -> None:
        async with self._client() as client:
            users = traffic.users(self._plan.requests)
            await traffic.drive(client, self._shots(), users, in_flight=self._plan.concurrency, on_end=self._count)

    def _shots(self) -> Iterator[Shot]:
        """The requests: the models take turns, and no two photos have the same bytes."""
        for number, model in zip(range(self._plan.requests), itertools.cycle(self._plan.models), strict=False):
            if self._stop.is_set():
                return
            parameters: Parameters = {"model": model, "priority": self._plan.priority, "top_k": 1}
            yield Shot(Upload(photo.copy(f"{self._began}-{number}")), parameters)

    def _count(self, _account: Account, ended: Ended | None) -> None:
        if ended is not None:
            self._codes[ended.code or "ok"] += 1
            self._latencies.append(ended.latency)
            self._elapsed = time.monotonic() - self._began

    def document(self) -> dict[str, Any]:
        """Progress and result as JSON; durations are milliseconds."""
        running = self.running
        seconds, codes = sorted(self._latencies), dict(self._codes)  # copies: the thread goes on counting
        elapsed = time.monotonic() - self._began if running else self._elapsed
        return {
            "state": "running" if running else "stopped" if self._stop.is_set() else "done",
            "plan": asdict(self._plan),
            "done": len(seconds),
            "ok": codes.get("ok", 0),
            "codes": codes,
            "rate": round(len(seconds) / elapsed, 1) if elapsed else 0.0,
            **{name: milliseconds(percentile(seconds, share)) for name, share in PERCENTILES.items()},
            "histogram": histogram(seconds),
        }


def histogram(seconds: Sequence[float]) -> list[dict[str, Any]]:
    """How many answers took up to each bound: rows ``{"bar": "≤ 50 ms", "requests": 12}``."""
    counts = Counter(bisect_left(BARS, value * 1000) for value in seconds)
    return [{"bar": name, "requests": counts[place]} for place, name in enumerate(BAR_NAMES)]
