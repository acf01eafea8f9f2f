"""The whole system through HTTP, as shares of its own in-process limit, and the memory of each process under load."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import charts
from bench.budget import say
from bench.caller import Caller, multipart, raw
from bench.facts import PHOTO
from bench.inferlane import Inferlane
from bench.journal import Record
from bench.limit import Limit
from bench.markdown import table, weights_note
from bench.parts.part import BenchPart, PartContext, Report
from bench.runs import MeasuredRun, closed_loop
from bench.statistics import Spread, spread
from bench.targets import TargetResult, at_least, at_most

BATCH = 32
BARE = {"mobilenet": [13.0]}
"""The core-ms that a model's bare pipeline is meant to cost at most, where that was said."""
WAYS = ("single c=1", "single c=4", "single c=16", "single c=64", "submit and poll c=16", "batches of 32")


def measure(context: PartContext) -> dict[str, Any]:
    """Rounds of every way of asking, each between two measurements of the limit."""
    options, photo = context.options, PHOTO.read_bytes()
    with Inferlane(context.folder, api_processes=options.api_processes, **weights(options)) as system:
        described = system.describe(system.add_worker(options.model))
        system.add_api()
        limit = Limit(options.model, system.settings())
        try:
            asked = Asked(system.caller, photo, described["model"], limit.classify(photo))
            for number in context.budget.rounds(options.rounds):
                _round(context, number, system, limit, asked)
        finally:
            limit.close()
        memory = context.journal.measure(lambda: {"memory": system.memory()}, way="memory")["memory"]
    return {"model": described["model"], "weights": described["weights"], "memory": memory}


def weights(options: argparse.Namespace) -> dict[str, object]:
    """The settings that say where a model's weights come from; a benchmark may run with random ones."""
    return {"ALLOW_RANDOM_WEIGHTS": 1, "WEIGHTS_TIMEOUT": 1, "WEIGHTS_DIR": options.weights}


def _round(context: PartContext, number: int, system: Inferlane, limit: Limit, asked: Asked) -> None:
    for way in WAYS:
        run = partial(_between, context, way, system, limit, asked)
        record = context.journal.measure(run, way=way, round=number)
        say(f"round {number + 1} {way}: {record['rate']:.1f}/s, {record['share']:.2f} of the limit")


def _between(context: PartContext, way: str, system: Inferlane, limit: Limit, asked: Asked) -> Record:
    """One way of asking; the limit at the same concurrency for one caller, at 16 for all others."""
    callers, once = asked.ways()[way]
    beside = 1 if callers == 1 else 16
    limits = [limit.run(asked.photo, beside, 0.4 * context.seconds)]
    run = closed_loop(once, callers, context.seconds, system.cpu)
    limits.append(limit.run(asked.photo, beside, 0.4 * context.seconds))
    return {
        **run.to_json(),
        "limit": [one.to_json() for one in limits],
        "share": round(run.rate / (sum(one.rate for one in limits) / 2), 4),
    }


class Asked:
    """The ways of asking one API for one photo's classes, each answer checked."""

    def __init__(self, caller: Caller, photo: bytes, model: str, expected: str) -> None:
        self._caller, self.photo, self._expected = caller, photo, expected
        self._path = f"/inference?model_type={model}"
        self._form, self._form_kind = multipart(photo, copies=BATCH, model_type=model)

    def ways(self) -> Mapping[str, tuple[int, Callable[[], int]]]:
        """By name: how many callers, and what each does."""
        return {
            "single c=1": (1, self.single),
            "single c=4": (4, self.single),
            "single c=16": (16, self.single),
            "single c=64": (64, self.single),
            "submit and poll c=16": (16, self.submit_and_poll),
            "batches of 32": (2, self.batch),
        }

    def single(self) -> int:
        """One photo per synchronous request, raw body."""
        body, kind = raw(self.photo)
        self._check(self._caller.json("POST", self._path, body, {"Content-Type": kind}))
        return 1

    def submit_and_poll(self) -> int:
        """202 at once, then one long poll for the answer."""
        headers = {"Content-Type": "image/jpeg", "Prefer": "respond-async"}
        accepted = self._caller.json("POST", self._path, self.photo, headers)
        self._check(self._caller.json("GET", f"/inference/{accepted['request_id']}", None, {"Prefer": "wait=30"}))
        return 1

    def batch(self) -> int:
        """One form of 32 photos, waited for."""
        headers = {"Content-Type": self._form_kind, "Prefer": "wait=30"}
        answer = self._caller.json("POST", "/batch_inference", self._form, headers)
        for item in answer["results"]:
            self._check(item)
        return len(answer["results"])

    def _check(self, answer: dict[str, Any]) -> None:
        predictions = answer.get("predictions") or [{}]
        if answer.get("status") not in ("success", "succeeded") or predictions[0].get("class") != self._expected:
            raise RuntimeError(f"not the answer: {str(answer)[:300]}")


def judge(report: Report) -> list[TargetResult]:
    """Shares of the limit, added delay, added work, memory."""
    model, api, worker = report["model"], _largest(report, "api"), _largest(report, "worker")
    share = {way: _spread(report, way, "share").median for way in WAYS}
    delay = median(r["p50_ms"] - median(x["p50_ms"] for x in r["limit"]) for r in _records(report, "single c=1"))
    return [
        at_least(f"{model}: single requests, 16 callers, of the limit", 0.90, share["single c=16"]),
        at_least(
            f"{model}: single requests, 64 callers, of 16 callers", 1.0, share["single c=64"] / share["single c=16"]
        ),
        at_least(f"{model}: batch endpoint, of the limit", 0.95, share["batches of 32"]),
        at_most(f"{model}: one caller, p50 above the bare pipeline", 4.0, delay, "ms"),
        *(at_most(f"{model}: bare pipeline", most, _bare(report), "core-ms") for most in BARE.get(model, [])),
        at_most(f"{model}: whole path above the bare pipeline", 3.0, _added(report), "core-ms"),
        at_most(f"{model}: API process, resident", 100.0, api, "MiB"),
        at_most(f"{model}: worker process, resident", 350.0, worker, "MiB"),
    ]


def render(report: Report) -> list[str]:
    """Tables of ways and of memory."""
    head = ["way of asking", "photos/s", "of the limit", "core-ms per photo", "of these API", "Redis", "worker",
            "p50 ms", "p99 ms"]  # fmt: skip
    ceiling, cost = spread(one["rate"] for one in _limits(report)), _bare(report)
    rounds = len(_records(report, "single c=16"))
    intro = (
        f"{weights_note(report['weights'])} {rounds} rounds; each way of asking between two measurements of the limit "
        f"({ceiling.text()} photos/s, {cost:.1f} core-ms a photo, 16 callers in one process; for one caller, the limit "
        "of one). Medians (least-greatest). Each answer is checked."
    )
    return [
        intro, "",
        *table(head, (_row(report, way) for way in WAYS)), "",
        *_memory(report),
    ]  # fmt: skip


def draw(report: Report, target: Path) -> None:
    """Shares of the limit."""
    rows = [(way, s.median, s.least, s.greatest) for way in WAYS if (s := _spread(report, way, "share"))]
    title = f"{report['model']}: end to end, {report['machine']['cores']} cores"
    charts.bars(target, title, "share of the in-process limit", rows, highlight="", line=1.0)


def _row(report: Report, way: str) -> list[str]:
    records = _records(report, way)
    parts = {name: median(r["core_ms"][name] for r in records) for name in ("api", "redis", "worker")}
    return [
        way, _spread(report, way, "rate").text(), _spread(report, way, "share").text(2), f"{sum(parts.values()):.1f}",
        *(f"{value:.1f}" for value in parts.values()),
        *(f"{median(r[name] for r in records):.1f}" for name in ("p50_ms", "p99_ms")),
    ]  # fmt: skip


def _memory(report: Report) -> list[str]:
    rows = (
        [part, process["process"], f"{process['rss_mib']:.0f}", f"{process['pss_mib']:.0f}"]
        for part, processes in report["memory"].items()
        for process in processes
    )
    return ["Memory of each process after the load:", "", *table(["part", "process", "RSS MiB", "PSS MiB"], rows)]


def _records(report: Report, way: str) -> list[Record]:
    return [record for record in report["records"] if record.get("way") == way and "rate" in record]


def _spread(report: Report, way: str, name: str) -> Spread:
    return spread(record[name] for record in _records(report, way))


def _limits(report: Report) -> list[dict[str, Any]]:
    """The measurements of the limit with 16 callers."""
    return [one for way in WAYS if way != "single c=1" for record in _records(report, way) for one in record["limit"]]


def _bare(report: Report) -> float:
    """Core-ms per photo of the limit."""
    return float(median(one["core_ms"]["limit"] for one in _limits(report)))


def _added(report: Report) -> float:
    """Core-ms per photo of all processes of the system above the limit's beside it."""
    return float(
        median(
            sum(r["core_ms"].values()) - median(one["core_ms"]["limit"] for one in r["limit"])
            for r in _records(report, "single c=16")
        )
    )


def _largest(report: Report, part: str) -> float:
    return float(max(process["rss_mib"] for process in report["memory"][part]))


PART = BenchPart(
    name="end-to-end",
    title="End to end",
    share=0.4,
    per_model=True,
    measure=measure,
    judge=judge,
    render=render,
    draw=draw,
)

__all__ = ["PART", "Asked", "MeasuredRun", "judge", "measure", "render"]
