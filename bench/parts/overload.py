"""Twice as much as it can answer, for minutes: what each priority waits, what is answered, what is refused.

Requests are sent at their times whatever becomes of the earlier ones (an open loop), and a delay counts from the time a
request was to be sent. High ones wait for their answers as a person would; normal and low ones are handed in and timed
by their records. The lanes hold ten seconds of work, so that they fill and refusals begin soon.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import charts
from bench.budget import say
from bench.caller import Caller
from bench.facts import PHOTO
from bench.inferlane import Inferlane
from bench.journal import Record
from bench.markdown import table, weights_note
from bench.parts.end_to_end import Asked, weights
from bench.parts.part import Context, Part, Report
from bench.runs import closed_loop
from bench.statistics import percentile
from bench.targets import Verdict, at_least, at_most
from tasks import connections
from tasks.errors import TaskError
from tasks.keys import Keys
from tasks.lanes import PRIORITIES, lane
from tasks.submit import Gateway

MIX = {"high": 0.2, "normal": 0.5, "low": 0.3}
FACTOR = 2.0
QUEUE_SECONDS = 10
WINDOWS = 10


def measure(context: Context) -> dict[str, Any]:
    """Capacity, overload, capacity again."""
    options, photo = context.options, PHOTO.read_bytes()
    with Inferlane(context.folder, api_processes=options.api_processes, **weights(options)) as system:
        described = system.describe(system.add_worker(options.model))
        model = described["model"]
        api = system.add_api()
        first = system.caller.json("POST", f"/inference?model_type={model}", photo, _JPEG)
        expected = first["predictions"][0]["class"]
        asked = Asked(system.caller, photo, model, expected)
        alone = closed_loop(asked.single, 1, context.seconds, system.cpu)
        before = closed_loop(asked.single, 64, 2 * context.seconds, system.cpu)
        say(f"capacity {before.rate:.1f}/s, alone {1000 * percentile(alone.latencies, 0.5):.1f} ms")
        api.stop()
        system.add_api(MAX_QUEUE=max(50, round(QUEUE_SECONDS * before.rate)))
        asked = Asked(system.caller, photo, model, expected)
        storm = Storm(system, model, photo, FACTOR * before.rate)
        record = context.journal.measure(partial(storm.run, options.overload_seconds), model=model)
        storm.wait_until_drained(60)
        after = closed_loop(asked.single, 64, 2 * context.seconds, system.cpu)
    say(f"capacity {after.rate:.1f}/s; goodput {record['goodput']:.1f}/s of {record['offered']:.1f}/s offered")
    return {
        "model": model,
        "weights": described["weights"],
        "alone": alone.to_json(),
        "capacity": [before.to_json(), after.to_json()],
        "max_batch": system.settings().max_batch,
    }


_JPEG = {"Content-Type": "image/jpeg"}


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
        self._client = connections.prompt(settings.redis_url)
        self._keys = Keys(settings.key_prefix)
        self._gateway = Gateway(settings, listen=False)
        self._model, self._photo, self._rate = model, photo, rate

    def run(self, seconds: float) -> Record:
        """Send for ``seconds``; what each priority saw."""
        sent, ledgers = Sent(), [self._ledger()]
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
        self.wait_until_drained(60)
        return self._record(sent, ledgers, elapsed)

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
        return self._caller.ask("POST", path, self._photo, {**_JPEG, "Prefer": prefer})

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


def _kept(send: Any, sent: Sent, priority: str, due: float) -> None:
    """An error of a sending thread is counted as what it is, so that it shows in the report."""
    try:
        send(sent, priority, due)
    except (OSError, RuntimeError, TaskError) as error:
        with sent.lock:
            sent.refused[f"{priority} {type(error).__name__}"] += 1


def _id(answer: bytes) -> str:
    import json

    return str(json.loads(answer)["request_id"])


def bound_ms(report: Report) -> float:
    """Three service times (one caller, nothing else to do) and one full batch at capacity."""
    capacity = _capacity(report)
    return 3 * float(report["alone"]["p50_ms"]) + 1000 * float(report["max_batch"]) / capacity


def _capacity(report: Report) -> float:
    return sum(float(run["rate"]) for run in report["capacity"]) / len(report["capacity"])


def judge(report: Report) -> list[Verdict]:
    """High is fast, low gets on, and the overload costs little of what is answered."""
    if not report["records"]:
        return []
    record, model = report["records"][0], report["model"]
    least = min(window["low"] for window in record["windows"][1:])
    high = record["lanes"]["high"]["p99_ms"]
    return [
        at_most(f"{model}: {FACTOR:g}x overload, high p99", round(bound_ms(report), 1), high, "ms"),
        at_least(f"{model}: {FACTOR:g}x overload, low answered in each tenth of the time", 1, least),
        at_least(f"{model}: {FACTOR:g}x overload, goodput, of capacity", 0.9, record["goodput"] / _capacity(report)),
    ]


def render(report: Report) -> list[str]:
    """Per lane: offered, answered, waits."""
    if not report["records"]:
        return []
    record = report["records"][0]
    rows = [
        [p, f"{MIX[p]:.0%}", row["offered"], row["answered"], f"{row['p50_ms']:,.0f}", f"{row['p99_ms']:,.0f}"]
        for p, row in record["lanes"].items()
    ]
    refused = ", ".join(f"{count} x {what}" for what, count in sorted(record["refused"].items())) or "none"
    intro = (
        f"{weights_note(report['weights'])} Capacity {_capacity(report):.1f} photos/s (64 callers, before and after); "
        f"offered {record['offered']:.1f}/s for {record['seconds']:.0f} s, answered {record['goodput']:.1f}/s. Refused "
        f"(priority and status): {refused}. The lanes hold {QUEUE_SECONDS} s of work. One photo alone takes "
        f"{report['alone']['p50_ms']:.1f} ms. The sender was at most {record['late_p99_ms']:.0f} ms late (p99)."
    )
    return [
        intro, "",
        *table(["priority", "of the load", "offered", "answered", "p50 ms", "p99 ms"], rows),
    ]  # fmt: skip


def draw(report: Report, target: Path) -> None:
    """Answers in each tenth of the time, by priority."""
    windows = report["records"][0]["windows"]
    step = report["records"][0]["seconds"] / WINDOWS
    series = {p: [((n + 0.5) * step, window[p] / step) for n, window in enumerate(windows)] for p in PRIORITIES}
    names = ("seconds into the overload", "answered photos a second")
    charts.curves(target, f"{report['model']} at {FACTOR:g} times its capacity", names, series)


PART = Part(
    name="overload",
    title="Twice the capacity",
    share=0.14,
    per_model=True,
    measure=measure,
    judge=judge,
    render=render,
    draw=draw,
)
