"""``status``, ``metrics``, ``queues``, ``workers``, ``models``, ``monitor``: the system, and orders to it."""

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from inferlane.clients import Client
from inferlane.commands.command import argument, command, positive
from inferlane.commands.operators import order
from inferlane.console import Context, Exit, Fitting, UsageError, advice, exit_code, plain, seconds, sections, table
from inferlane.errors import AccessDenied, ClientError
from inferlane.retries import ONCE

COLOURS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}
MINUTES = 5  # of history
STAGES = ("queue", "decode", "infer", "total")
WORDS = {"eta_error": "estimate off by"}


@command("status", "show the system's health; exits with 1 if it is unhealthy")
def _status(context: Context) -> int:
    with context.client() as client:
        health = client.health()
        up = health["broker"] == "up"
        metrics = client.metrics() if up else None
        minutes = client.document("/ops/history", params={"minutes": str(MINUTES)})["history"] if up else []
    document = {"health": health, "metrics": metrics, "minutes": minutes}
    workers = health["workers"]
    facts = {
        "version": health["version"], "API up for": seconds(health["uptime"]), "broker": health["broker"],
        "workers": "{total} ({busy} busy, {draining} draining)".format(**workers), "queued": health["queue_size"],
    }  # fmt: skip
    parts = [verdict(health), table("", "", "#", rows=facts.items())]
    context.show(document, lambda: sections([*parts, *([_minute_table(minutes)] if minutes else [])]))
    return Exit.FAILED if health["status"] == "unhealthy" else Exit.OK


def _minute_table(minutes: Iterable[Mapping[str, Any]]) -> RenderableType:
    """The requests of the last minutes, from ``/ops/history``."""
    columns = ("#accepted", "#succeeded", "#failed", "#expired", "#p50", "#p95", "#p99")
    return table(f"the last {MINUTES} minutes", "!minute", *columns, rows=map(_minute, minutes))


def _minute(row: Mapping[str, Any]) -> tuple[object, ...]:
    counts = (row[name] for name in ("accepted", "succeeded", "failed", "expired"))
    total = row["total"]
    times = (seconds(total[share]) if total["count"] else "" for share in ("p50", "p95", "p99"))
    return (f"{datetime.fromtimestamp(row['at']):%H:%M}", *counts, *times)


def verdict(health: Mapping[str, Any]) -> RenderableType:
    """The system's status, with the reasons."""
    word = str(health["status"])
    reasons = (plain(f"  {reason}") for reason in health["reasons"])
    return Group(Text(word, style=COLOURS.get(word, "")), *reasons)


def stage_table(latencies: Mapping[str, Any]) -> RenderableType:
    """How long each stage of a request takes, from ``/metrics``."""
    names = [name for name in STAGES if name in latencies] + sorted(set(latencies) - set(STAGES))
    rows = (_latency(name, latencies[name]) for name in names)
    return table("latency", "stage", "#p50", "#p95", "#p99", "#count", rows=rows)


@command("metrics", "show counters and latencies as JSON")
def _metrics(context: Context) -> int:
    with context.client() as client:
        metrics = client.metrics()
    context.show(metrics, lambda: json.dumps(metrics, indent=2))
    return Exit.OK


def _latency(name: str, stage: Mapping[str, Any]) -> tuple[object, ...]:
    times = (seconds(stage.get(part)) for part in ("p50", "p95", "p99"))
    return (WORDS.get(name, name), *times, round(stage.get("count") or 0))


def _give_orders(context: Context, client: Client, kind: str, actions: Iterable[str]) -> bool:
    """Give the orders of the command line; whether there were any."""
    asked = [(action, name) for action in actions if (name := getattr(context.arguments, action))]
    for action, name in asked:
        order(context, client, f"/admin/{kind}/{quote(name, safe='')}/{action}")
    return bool(asked)


@command(
    "queues", "show the backlog by lane; pause and resume lanes",
    argument("--pause", metavar="LANE", help="pause a lane; it still accepts requests"),
    argument("--resume", metavar="LANE", help="resume a paused lane"),
)  # fmt: skip
def _queues(context: Context) -> int:
    with context.client() as client:
        if _give_orders(context, client, "lanes", ("pause", "resume")):
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


@command(
    "workers", "show the live workers; drain and resume them",
    argument("--drain", metavar="ID", help="drain a worker: it finishes its requests and takes no more"),
    argument("--resume", metavar="ID", help="resume a drained worker"),
)  # fmt: skip
def _workers(context: Context) -> int:
    with context.client() as client:
        if _give_orders(context, client, "workers", ("drain", "resume")):
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
    runtime = " ".join(filter(None, (worker.get("runtime"), worker.get("precision"), worker.get("device"))))
    memory = worker.get("rss_bytes")
    return (
        worker["id"], worker["state"], worker["in_flight"], worker["processed"],
        seconds(worker.get("service_seconds") or None), memory and f"{memory / 2**20:.0f} MiB", worker["model"],
        runtime, worker.get("weights"),
    )  # fmt: skip


@command("models", "show the models that requests may name")
def _models(context: Context) -> int:
    with context.client() as client:
        models = client.models()
    rows = ((model["name"], model["live_workers"], model["architecture"], ", ".join(model["weights"]))
            for model in models)  # fmt: skip
    context.show({"models": models}, lambda: table("", "!model", "#workers", "network", "~weights", rows=rows))
    return Exit.OK


@command(
    "monitor", "watch health, workers, lanes and latencies",
    argument("--every", type=float, default=1.0, metavar="SECONDS", help="refresh interval (%(default)g)"),
    argument("--times", type=positive, metavar="N", help="exit after N refreshes"),
    retries=ONCE, timeout=5.0, timeout_of="time limit per refresh",
)  # fmt: skip
def _monitor(context: Context) -> int:
    every, times = context.arguments.every, context.arguments.times
    if every <= 0:
        raise UsageError("--every must be above 0")
    if context.json:
        raise UsageError("monitor has no --json; use status, queues or workers with it")
    code, looks = Exit.OK, 0
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        client = stack.enter_context(context.client())
        live = stack.enter_context(Live(console=context.out, auto_refresh=False, screen=context.out.is_terminal))
        while times is None or looks < times:
            time.sleep(every if looks else 0)
            code, picture = _look(context, client)
            live.update(picture, refresh=True)
            looks += 1
    return code


def _look(context: Context, client: Client) -> tuple[Exit, RenderableType]:
    """The system as it is now, or why it does not answer, which may pass."""
    heading = f"{client.connection.url}  {datetime.now():%H:%M:%S}"
    try:
        health, queues, workers = client.health(), client.queues(), client.workers()
        latencies = client.metrics()["latencies"]
    except AccessDenied:
        raise
    except ClientError as error:
        hint = advice(error, has_key=bool(context.arguments.api_key))
        return exit_code(error), Text("\n".join(filter(None, [heading, plain(error), hint])), style="red")
    parts = [Group(heading, verdict(health)), worker_table(workers), lane_table(queues)]
    return Exit.OK, sections([*parts, *([stage_table(latencies)] if latencies else [])])
