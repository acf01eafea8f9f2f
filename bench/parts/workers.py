"""Scaling: 1 to 64 workers of a model that sleeps, so that they do not compete for cores."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import charts
from bench.budget import say
from bench.inferlane import Inferlane
from bench.journal import Record
from bench.markdown import table
from bench.parts.overhead import small_photo
from bench.parts.part import BenchPart, PartContext, Report
from bench.statistics import Spread, spread
from bench.targets import TargetResult, at_least
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol import connections
from tasks.protocol.keys import Keys

MODEL = "photo"
STEPS = (1, 2, 4, 8, 16, 32, 64)
WANTED = 16
"""Up to so many workers are measured however long it takes: there is a target for them."""
SLEEP = 0.5
"""Seconds of one image; 64 workers then need about 130 images a second from everything around them."""


def measure(context: PartContext) -> dict[str, Any]:
    """Add workers step by step and count what ends in a second."""
    steps = [step for step in STEPS if step <= context.options.workers]
    with Inferlane(context.folder, MODELS=MODEL, MAX_QUEUE=1_000_000, MAX_BATCH=1, WORKERS_ON_HOST=64) as system:
        load = Load(system)
        running = 0
        for step in steps:
            if step > WANTED and context.budget.left < 2 * context.seconds + 1.5 * (step - running):
                say(f"{context.budget.left:.0f} s left: not {step} workers")
                break
            _start(system, step - running)
            running = step
            for number in range(context.options.repeats):
                record = context.journal.measure(partial(load.run, step, context.seconds), workers=step, round=number)
                say(f"{step} workers: {record['rate']:.2f}/s")
        memory = system.memory()["worker"]
        load.close()
    return {
        "sleep": SLEEP,
        "worker_memory": {"rss_mib": _middle(memory, "rss_mib"), "pss_mib": _middle(memory, "pss_mib")},
    }


def _middle(memory: list[dict[str, Any]], name: str) -> float:
    return float(median(process[name] for process in memory)) if memory else 0.0


def _start(system: Inferlane, number: int) -> None:
    """Start workers side by side: Python takes a second of core time to load each."""
    started = [
        system.stack.start_worker(
            "tests.toy:photo", ready=False, TOY_SECONDS=SLEEP, name=f"sleeper-{time.monotonic_ns()}"
        )
        for _ in range(number)
    ]
    for worker in started:
        system.stack.wait_for_worker(worker, timeout=60 + 4 * number)
        system.adopt_worker(worker)


class Load:
    """Keeps enough queued for every worker and counts what ends."""

    def __init__(self, system: Inferlane) -> None:
        settings = system.settings()
        self._client = connections.prompt(settings.redis_url)
        self._keys = Keys(settings.key_prefix)
        self._gateway = Gateway(settings)
        self._submission = Submission(image=small_photo(), model_type=MODEL)
        self._cpu = system.cpu
        self._ids: list[str] = []

    def run(self, workers: int, seconds: float) -> Record:
        """Images a second over ``seconds``, once every worker has had time to begin."""
        ids = self._fill(round(1.5 * workers * (seconds + 4 * SLEEP) / SLEEP))
        time.sleep(4 * SLEEP)
        before, cpu, began = self._ended(), self._cpu(), time.time()
        time.sleep(seconds)
        ended, after, over = self._ended() - before, self._cpu(), time.time()
        return {
            "rate": round(sum(steady(times, began, over) for times in self._completions(ids).values()), 3),
            "ended": ended,
            "seconds": round(over - began, 3),
            "core_ms": {name: round(1000 * (after[name] - cpu[name]) / max(1, ended), 2) for name in after},
        }

    def close(self) -> None:
        """Close the connections."""
        self._gateway.close()
        self._client.close()

    def _fill(self, length: int) -> list[str]:
        """Submit so many; the ids of these and of all before them."""
        self._ids += [self._gateway.submit(self._submission).id for _ in range(length - self._waiting())]
        return self._ids

    def _waiting(self) -> int:
        return int(self._client.llen(self._keys.lane(f"normal.{MODEL}")))

    def _completions(self, ids: list[str]) -> dict[str, list[float]]:
        """When each worker ended its images."""
        found: dict[str, list[float]] = {}
        for start in range(0, len(ids), 500):
            for request in self._gateway.records.get_many(ids[start : start + 500]):
                if request.worker_id and request.completed_at:
                    found.setdefault(request.worker_id, []).append(request.completed_at)
        return found

    def _ended(self) -> int:
        return int(self._client.hget(self._keys.ledger, f"normal.{MODEL}:succeeded") or 0)


def steady(times: list[float], began: float, over: float) -> float:
    """Images a second of one worker: those of the window, by the time from the last before it to the last in it.

    Counting alone would be off by one image in eight. A worker that stood still at the end gets no credit for it.
    """
    inside = sorted(time for time in times if began < time <= over)
    if not inside:
        return 0.0
    anchor = max((time for time in times if time <= began), default=began)
    last = over if over - inside[-1] > 2 * SLEEP else inside[-1]
    return len(inside) / (last - anchor)


def ratios(report: Report) -> dict[int, Spread]:
    """Throughput as a multiple of one worker's median, by the number of workers."""
    rates: dict[int, list[float]] = {}
    for record in report["records"]:
        rates.setdefault(record["workers"], []).append(record["rate"])
    one = median(rates[1])
    return {workers: spread(rate / one for rate in found) for workers, found in sorted(rates.items())}


def judge(report: Report) -> list[TargetResult]:
    """Two and sixteen workers."""
    found = ratios(report)
    wanted = {2: 1.9, 16: 14.0}
    return [
        at_least(f"{workers} workers on sleeping work, of one", bound, found[workers].median, "x")
        for workers, bound in wanted.items()
        if workers in found
    ]


def render(report: Report) -> list[str]:
    """Throughput by number of workers."""
    found = ratios(report)
    rows = []
    for workers, ratio in found.items():
        records = [record for record in report["records"] if record["workers"] == workers]
        rate = median(record["rate"] for record in records)
        cost = median(sum(record["core_ms"].values()) for record in records)
        rows.append([workers, f"{rate:.2f}", ratio.text(2), f"{ratio.median / workers:.2f}", f"{cost:.1f}"])
    memory = report["worker_memory"]
    intro = (
        f"A model that sleeps {report['sleep']} s for each image, so one could end {1 / report['sleep']:g} a second. "
        "core-ms are those of workers and Redis together."
    )
    return [
        intro, "",
        *table(["workers", "images/s", "of one worker", "per worker", "core-ms per image"], rows), "",
        f"Memory of such a worker: RSS {memory['rss_mib']:.0f} MiB, PSS {memory['pss_mib']:.0f} MiB.",
    ]  # fmt: skip


def draw(report: Report, target: Path) -> None:
    """Measured against ideal."""
    found = ratios(report)
    names = ("workers", "throughput, as a multiple of one worker")
    ideal = [(workers, workers) for workers in found]
    curve = {"measured": [(workers, ratio.median) for workers, ratio in found.items()]}
    charts.curves(target, "Workers on sleeping work", names, curve, ideal=ideal)


PART = BenchPart(
    name="workers",
    title="More workers",
    share=0.12,
    per_model=False,
    measure=measure,
    judge=judge,
    render=render,
    draw=draw,
)
