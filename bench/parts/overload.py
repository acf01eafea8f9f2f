"""Twice the capacity, for minutes: waits by priority, answers and refusals.

Requests are sent at their times whatever becomes of the earlier ones (an open loop), and a delay counts from the time a
request was to be sent. High ones wait for their answers as a person would; normal and low ones are submitted and timed
by their records. The lanes hold ten seconds of work, so that they fill and refusals begin soon.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench import charts
from bench.budget import say
from bench.facts import PHOTO
from bench.inferlane import Inferlane
from bench.markdown import table, weights_note
from bench.parts.end_to_end import Asked, weights
from bench.parts.part import BenchPart, PartContext, Report
from bench.parts.storm import MIX, PHOTO_HEADERS, WINDOWS, Storm
from bench.runs import closed_loop
from bench.statistics import percentile
from bench.targets import TargetResult, at_least, at_most
from tasks.lanes import PRIORITIES

FACTOR = 2.0
QUEUE_SECONDS = 10


def measure(context: PartContext) -> dict[str, Any]:
    """Capacity, overload, capacity again."""
    options, photo = context.options, PHOTO.read_bytes()
    with Inferlane(context.folder, api_processes=options.api_processes, **weights(options)) as system:
        described = system.describe(system.add_worker(options.model))
        model = described["model"]
        api = system.add_api()
        first = system.caller.json("POST", f"/inference?model_type={model}", photo, PHOTO_HEADERS)
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
        "max_batch": described["max_batch"],
    }


def bound_ms(report: Report) -> float:
    """Three service times (one caller, nothing else to do) and one full batch at capacity."""
    capacity = _capacity(report)
    return 3 * float(report["alone"]["p50_ms"]) + 1000 * float(report["max_batch"]) / capacity


def _capacity(report: Report) -> float:
    return sum(float(run["rate"]) for run in report["capacity"]) / len(report["capacity"])


def judge(report: Report) -> list[TargetResult]:
    """High is fast, low is not starved, and the overload costs little goodput."""
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
        f"{report['alone']['p50_ms']:.1f} ms. The sender was at most {record['late_p99_ms']:.0f} ms late (p99). Cores "
        f"used: {', '.join(f'{name} {value:.2f}' for name, value in record['cores'].items())}."
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


PART = BenchPart(
    name="overload",
    title="Twice the capacity",
    share=0.14,
    per_model=True,
    measure=measure,
    judge=judge,
    render=render,
    draw=draw,
)
