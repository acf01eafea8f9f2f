"""``list``: the requests of late, newest first, by whomever they were handed in."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from rich.console import RenderableType

from inferlane.answers import ENDED, Snapshot
from inferlane.commands.command import Command, positive
from inferlane.console import Context, Exit, Fitting, seconds, table

STATES = ("queued", "running", *sorted(ENDED))
PAGE = 100


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--status", choices=STATES, help="only those in this state")
    parser.add_argument("-m", "--model", help="only those that asked for this model; any is one of its own")
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("-n", "--limit", type=positive, default=20, metavar="N", help="how many (%(default)s)")
    how_many.add_argument("--all", action="store_true", help="as many as the API remembers")


def _run(context: Context) -> int:
    given = context.arguments
    limit = None if given.all else given.limit
    with context.client() as client:
        size = min(PAGE, limit or PAGE)
        found = islice(client.requests(status=given.status, model_type=given.model, page_size=size), limit)
        if context.json:
            for snapshot in found:
                context.print_json(snapshot.raw)
        else:
            context.print(_table(found))
    return Exit.OK


def _table(snapshots: Iterable[Snapshot]) -> RenderableType:
    rows = [_row(snapshot) for snapshot in snapshots]
    if not rows:
        return "there are no such requests"
    full = table("", "!request", "!accepted", "!state", "!asked for", "!priority", "#took", "answer", rows=rows)
    brief = [(name, accepted[-8:], state, took, answer) for name, accepted, state, _, _, took, answer in rows]
    return Fitting([full, table("", "!request", "!accepted", "!state", "#took", "~answer", rows=brief)])


def _row(snapshot: Snapshot) -> tuple[str, ...]:
    raw = snapshot.raw
    accepted = datetime.fromisoformat(raw["created_at"]).astimezone()
    best, error = raw.get("predictions") or [{}], raw.get("error") or {}
    return (
        snapshot.request_id, f"{accepted:%m-%d %H:%M:%S}", snapshot.state, snapshot.model_type, snapshot.priority,
        seconds(raw.get("processing_time")), best[0].get("class") or error.get("code") or "",
    )  # fmt: skip


LIST = Command(name="list", help="the requests of late, newest first", run=_run, configure=_configure)
