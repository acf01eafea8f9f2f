"""``monitor``: the system in the terminal, drawn anew every second until interrupted."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack, suppress
from datetime import datetime

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from inferlane.clients import Client
from inferlane.commands.command import Command, positive
from inferlane.commands.system import lane_table, stage_table, verdict, worker_table
from inferlane.console import Context, Exit, UsageError, plain, sections
from inferlane.errors import ClientError
from inferlane.retries import ONCE


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="between two looks (%(default)g)")
    parser.add_argument("--times", type=positive, metavar="N", help="look so often, then end; else until interrupted")


def _run(context: Context) -> int:
    every, times = context.arguments.every, context.arguments.times
    if every <= 0:
        raise UsageError("--every must be above 0")
    if context.json:
        raise UsageError("monitor draws; for a program there are status, queues and workers with --json")
    ok = True
    # Ctrl-C is how it is meant to end.
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        client = stack.enter_context(context.client())
        live = stack.enter_context(Live(console=context.out, auto_refresh=False, screen=context.out.is_terminal))
        looks = 0
        while times is None or looks < times:
            time.sleep(every if looks else 0)
            ok, picture = look(client)
            live.update(picture, refresh=True)
            looks += 1
    return Exit.OK if ok else Exit.UNREACHABLE


def look(client: Client) -> tuple[bool, RenderableType]:
    """The system as it is now; False and the reason when it does not answer, which is no reason to stop looking."""
    heading = f"{client.address.url}  {datetime.now():%H:%M:%S}"
    try:
        health, queues, workers = client.health(), client.queues(), client.workers()
        latencies = client.metrics()["latencies"]
    except ClientError as error:
        return False, Text(f"{heading}\n{plain(error)}", style="red")
    parts = [Group(heading, verdict(health)), worker_table(workers), lane_table(queues)]
    return True, sections([*parts, *([stage_table(latencies)] if latencies else [])])


MONITOR = Command(
    name="monitor", help="watch health, workers, lanes and latencies", run=_run, configure=_configure, retries=ONCE,
    timeout=5.0, timeout_of="how long each look may take",
)  # fmt: skip
