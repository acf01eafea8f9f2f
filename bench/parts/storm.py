"""An open loop of requests of all priorities, and what became of them."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

from bench.caller import Caller
from bench.inferlane import Inferlane
from bench.journal import Record
from bench.statistics import percentile
from tasks.lanes import PRIORITIES, lane
from tasks.producer.gateway import Gateway
from tasks.protocol import connections
from tasks.protocol.keys import Keys

MIX = {"high": 0.2, "normal": 0.5, "low": 0.3}
"""Shares of the load by priority."""
WINDOWS = 10
"""Parts of the time in which answers are counted."""
PHOTO_HEADERS = {"Content-Type": "image/jpeg"}


@dataclass
class Sent:
    """What became of the requests so far; shared by the sending threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    offered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    high: list[float] = field(default_factory=list)
    ids: dict[str, list[str]] = field(default_factory=lambda: {"normal": [], "low": []})
    late: list[float] = field(default_factory=list)


class Storm:
    """An open loop of requests of all priorities at ``rate`` a second."""

    def __init__(self, system: Inferlane, model: str, photo: bytes, rate: float) -> None:
        settings = system.settings()
        self._caller: Caller = system.caller
        self._cpu = system.cpu
        self._client = connections.prompt(settings.redis_url)
        self._keys = Keys(settings.key_prefix)
        self._gateway = Gateway(settings)
        self._model, self._photo, self._rate = model, photo, rate

    def run(self, seconds: float) -> Record:
        """Send for ``seconds``; what each priority saw."""
        sent, ledgers = Sent(), [self._ledger()]
        before = {**self._cpu(), "callers": time.process_time()}
        with ThreadPoolExecutor(64) as waiting, ThreadPoolExecutor(16) as handing:
            began = time.monotonic()
            for at, priority in schedule(self._rate, seconds):
                time.sleep(max(0.0, began + at - time.monotonic()))
                pool, send = (waiting, self._wait) if priority == "high" else (handing, self._hand_in)
                pool.submit(_kept, send, sent, priority, began + at)
                if at >= len(ledgers) * seconds / WINDOWS:
                    ledgers.append(self._ledger())
            ledgers.append(self._ledger())
            elapsed = time.monotonic() - began
            after = {**self._cpu(), "callers": time.process_time()}
        self.wait_until_drained(60)
        cores = {name: round((after[name] - before[name]) / elapsed, 3) for name in after}
        return self._record(sent, ledgers, elapsed) | {"cores": cores}

    def wait_until_drained(self, timeout: float) -> None:
        """Until nothing is queued or running."""
        ends = time.monotonic() + timeout
        while any(self._ledger(state).total() for state in ("queued", "running")) and time.monotonic() < ends:
            time.sleep(0.1)

    def _wait(self, sent: Sent, priority: str, due: float) -> None:
        status, answer = self._post(priority, "wait=30")
        with sent.lock:
            sent.offered[priority] += 1
            if status == 200:
                sent.high.append(time.monotonic() - due)
            else:
                sent.refused[f"{priority} {status}"] += 1
        if status not in (200, 429, 503):
            raise RuntimeError(f"{status} {answer[:200]!r}")

    def _hand_in(self, sent: Sent, priority: str, due: float) -> None:
        began = time.monotonic()
        status, answer = self._post(priority, "respond-async")
        with sent.lock:
            sent.offered[priority] += 1
            sent.late.append(began - due)
            if status == 202:
                sent.ids[priority].append(_id(answer))
            else:
                sent.refused[f"{priority} {status}"] += 1

    def _post(self, priority: str, prefer: str) -> tuple[int, bytes]:
        path = f"/inference?model_type={self._model}&priority={priority}"
        return self._caller.ask("POST", path, self._photo, {**PHOTO_HEADERS, "Prefer": prefer})

    def _ledger(self, state: str = "succeeded") -> Counter[str]:
        names = [f"{lane(priority, self._model)}:{state}" for priority in PRIORITIES]
        values = self._client.hmget(self._keys.ledger, names)
        return Counter({p: int(value or 0) for p, value in zip(PRIORITIES, values, strict=True)})

    def _record(self, sent: Sent, ledgers: list[Counter[str]], elapsed: float) -> Record:
        waits = {"high": sent.high, **{p: self._totals(ids) for p, ids in sent.ids.items()}}
        windows = [{p: b[p] - a[p] for p in PRIORITIES} for a, b in pairwise(ledgers)]
        answered = {p: ledgers[-1][p] - ledgers[0][p] for p in PRIORITIES}
        return {
            "seconds": round(elapsed, 1),
            "offered": round(sum(sent.offered.values()) / elapsed, 2),
            "goodput": round(sum(answered.values()) / elapsed, 2),
            "refused": dict(sent.refused),
            "late_p99_ms": round(1000 * percentile(sent.late or [0.0], 0.99), 1),
            "windows": windows,
            "lanes": {
                p: {
                    "offered": sent.offered[p],
                    "answered": answered[p],
                    "p50_ms": round(1000 * percentile(waits[p] or [0.0], 0.50), 1),
                    "p99_ms": round(1000 * percentile(waits[p] or [0.0], 0.99), 1),
                }
                for p in PRIORITIES
            },
        }

    def _totals(self, ids: list[str]) -> list[float]:
        """Seconds from accepted to ended, of those that ended."""
        parts = (ids[start : start + 500] for start in range(0, len(ids), 500))
        requests = (request for part in parts for request in self._gateway.records.get_many(part))
        return [request.timings["total"] for request in requests if "total" in request.timings]


def schedule(rate: float, seconds: float) -> Iterator[tuple[float, str]]:
    """When each request is due, in seconds from the start, and its priority: evenly spaced, mixed as MIX says."""
    names, weights = list(MIX), list(MIX.values())
    rng = random.Random(6)  # noqa: S311 - every run gets the same mix in the same order
    for number in range(int(rate * seconds)):
        yield number / rate, rng.choices(names, weights)[0]


def _kept(send: Callable[[Sent, str, float], None], sent: Sent, priority: str, due: float) -> None:
    """An error of a sending thread is counted as what it is, so that it shows in the report."""
    try:
        send(sent, priority, due)
    except (OSError, RuntimeError) as error:
        with sent.lock:
            sent.refused[f"{priority} {type(error).__name__}"] += 1


def _id(answer: bytes) -> str:
    return str(json.loads(answer)["request_id"])
