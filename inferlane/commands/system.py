"""``status``, ``metrics``, ``queues``, ``workers``: the state of the system, and the orders to lanes and workers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.text import Text

from inferlane.clients import Client
from inferlane.commands.command import Command
from inferlane.commands.operators import order
from inferlane.console import Context, Exit, Fitting, plain, seconds, sections, table

COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}
STAGES = ("queue", "decode", "infer", "total")
WORDS = {"eta_error": "estimate off by"}


def _status(context: Context) -> int:
    with context.client() as client:
        health = client.health()
        metrics = client.metrics() if health["broker"] == "up" else None
    context.show({"health": health, "metrics": metrics}, lambda: _overview(health, metrics))
    return Exit.FAILED if health["status"] == "unhealthy" else Exit.OK


def _overview(health: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> RenderableType:
    parts: list[RenderableType] = [verdict(health), table("", "", "#", rows=_facts(health))]
    if metrics is not None and metrics["latencies"]:
        parts.append(stage_table(metrics["latencies"]))
    return sections(parts)


def verdict(health: Mapping[str, Any]) -> RenderableType:
    """The system in one word, with the reasons."""
    word = str(health["status"])
    reasons = (plain(f"  {reason}") for reason in health["reasons"])
    return Group(Text(word, style=COLOURS.get(word, "")), *reasons)


def stage_table(latencies: Mapping[str, Any]) -> RenderableType:
    """How long each stage of a request takes, from ``/metrics``."""
    rows = (_latency(name, latencies[name]) for name in _stages(latencies))
    return table("how long it takes", "stage", "#p50", "#p95", "#p99", "#count", rows=rows)


def _metrics(context: Context) -> int:
    with context.client() as client:
        metrics = client.metrics()
    context.show(metrics, lambda: json.dumps(metrics, indent=2))
    return Exit.OK


def _facts(health: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    workers = health["workers"]
    yield "version", health["version"]
    yield "API up for", seconds(health["uptime"])
    yield "broker", health["broker"]
    yield "workers", f"{workers['total']} ({workers['busy']} busy, {workers['draining']} draining)"
    yield "waiting", health["queue_size"]
    yield "accepted", health["total_requests"]
    yield "succeeded", health["successful_requests"]
    yield "failed or too late", health["failed_requests"]


def _stages(latencies: Mapping[str, Any]) -> list[str]:
    return [name for name in STAGES if name in latencies] + sorted(set(latencies) - set(STAGES))


def _latency(name: str, stage: Mapping[str, Any]) -> tuple[object, ...]:
    times = (seconds(stage.get(part)) for part in ("p50", "p95", "p99"))
    return (WORDS.get(name, name), *times, round(stage.get("count") or 0))


def _queue_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pause", metavar="LANE", help="let workers take nothing from a lane; it goes on accepting")
    parser.add_argument("--resume", metavar="LANE", help="let them take again")


def _worker_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drain", metavar="ID", help="let a worker finish what it has and take nothing more")
    parser.add_argument("--resume", metavar="ID", help="let it take again")


def _obey(context: Context, client: Client, kind: str, actions: Iterable[str]) -> bool:
    """Give the orders that were asked for; whether there were any."""
    asked = [(action, name) for action in actions if (name := getattr(context.arguments, action))]
    for action, name in asked:
        order(context, client, f"/admin/{kind}/{quote(name, safe='')}/{action}")
    return bool(asked)


def _queues(context: Context) -> int:
    with context.client() as client:
        if _obey(context, client, "lanes", ("pause", "resume")):
            return Exit.OK
        queues = client.queues()
    context.show(queues, lambda: lane_table(queues))
    return Exit.OK


def lane_table(queues: Mapping[str, Any]) -> RenderableType:
    """The lanes, from ``/queue/status``."""
    title = "{size} waiting: {high_priority} high, {normal_priority} normal, {low_priority} low".format(**queues)
    columns = ("!lane", "#waiting", "#running", "#oldest", "#in/s", "#out/s", "#expected")
    return table(title, *columns, rows=(_lane(lane) for lane in queues["lanes"]))


def _lane(lane: Mapping[str, Any]) -> tuple[object, ...]:
    rates = (None if lane[name] is None else f"{lane[name]:.1f}" for name in ("rate_in", "rate_out"))
    expected = "paused" if lane["paused"] else seconds(lane["eta"] or None)
    return (lane["lane"], lane["depth"], lane["running"], seconds(lane["oldest_age"]), *rates, expected)


def _workers(context: Context) -> int:
    with context.client() as client:
        if _obey(context, client, "workers", ("drain", "resume")):
            return Exit.OK
        workers = client.workers()
    context.show({"workers": workers}, lambda: worker_table(workers))
    return Exit.OK


def worker_table(workers: Iterable[Mapping[str, Any]]) -> RenderableType:
    """The workers, from ``/workers/status``."""
    rows = [_worker(worker) for worker in workers]
    columns = ("!worker", "!state", "#has", "#done", "#per image", "#memory")
    full = table("", *columns, "!model", "!runs on", "!weights", rows=rows)
    brief = [(*row[:6], row[-1]) for row in rows]
    return Fitting([full, table("", *columns, "~weights", rows=brief)])


def _worker(worker: Mapping[str, Any]) -> tuple[object, ...]:
    runtime = " ".join(filter(None, (worker.get("runtime"), worker.get("device"))))
    memory = worker.get("rss_bytes")
    return (
        worker["id"], worker["state"], worker["in_flight"], worker["processed"],
        seconds(worker.get("service_seconds") or None), memory and f"{memory / 2**20:.0f} MiB", worker["model"],
        runtime, worker.get("weights"),
    )  # fmt: skip


STATUS = Command(name="status", help="the system in one word, with the reasons; 1 when it is unhealthy", run=_status)
METRICS = Command(name="metrics", help="counters and latencies as JSON", run=_metrics)
QUEUES = Command(name="queues", help="what waits, by lane", run=_queues, configure=_queue_arguments)
WORKERS = Command(name="workers", help="the live workers", run=_workers, configure=_worker_arguments)
