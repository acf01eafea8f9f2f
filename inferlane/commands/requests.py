"""``submit``, ``get``, ``cancel``, ``list``: requests, from an image or an id."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from inferlane.answers import ENDED, Result, Snapshot
from inferlane.commands.command import argument, command, options_of, positive, request_options
from inferlane.console import Context, Exit, Fitting, plain, seconds, sections, table
from inferlane.images import Source
from inferlane.retries import Retries

STATES = ("queued", "running", *sorted(ENDED))
PAGE = 100
_HIDDEN = frozenset({"request_id", "predictions", "timeline", "timings", "urls", "error", "status", "timestamp"})


def source(text: str) -> Source:
    """An image named on the command line; ``-`` is standard input."""
    return sys.stdin.buffer.read() if text == "-" else text


def predictions(result: Result, title: str = "") -> Table:
    """The classes of an answer."""
    rows = ((f"{item.confidence:.2%}", item.label, item.index) for item in result.predictions)
    return table(title, "#confidence", "class", "#index", rows=rows)


def footnote(result: Result) -> str:
    """The model, the worker, and the time it took."""
    taken = "" if result.processing_time is None else f" in {seconds(result.processing_time)}"
    return plain(f"{result.model} ({result.weights} weights) on {result.worker_id}{taken}, request {result.request_id}")


def resource(snapshot: Snapshot) -> RenderableType:
    """Everything about a request."""
    raw = snapshot.raw
    facts = [(name, value) for name, value in raw.items() if name not in _HIDDEN and value is not None]
    parts: list[RenderableType] = [table("", "request", snapshot.request_id, rows=facts)]
    if timings := raw.get("timings"):
        parts.append(table("", *(f"#{name}" for name in timings), rows=[map(seconds, timings.values())]))
    if timeline := raw.get("timeline"):
        rows = ((entry["at"], entry["event"], details(entry)) for entry in timeline)
        parts.append(table("", "at", "event", "", rows=rows))
    if snapshot.state == "succeeded":
        parts.append(predictions(snapshot.result()))
    elif error := raw.get("error"):
        parts.append(plain(f"{error['code']}: {error['message']}"))
    return sections(parts)


def details(entry: Mapping[str, Any]) -> str:
    """The members of a timeline's entry besides time and name."""
    return ", ".join(f"{name} {value}" for name, value in entry.items() if name not in {"at", "event"})


@command(
    "submit", "submit one photo and print its id",
    argument("image", help="a photo, or - for standard input"),
    argument("--request-id", help="your own id; the same id and photo run once"),
    request_options,
    retries=Retries(patience=10.0),
)  # fmt: skip
def _submit(context: Context) -> int:
    given = context.arguments
    with context.client() as client:
        job = client.submit(source(given.image), given.model, request_id=given.request_id, **options_of(given))
    context.show({"request_id": job.id}, lambda: job.id)
    return Exit.OK


@command("get", "show a request", argument("id", help="request id"))
def _get(context: Context) -> int:
    with context.client() as client:
        snapshot = client.job(context.arguments.id).status()
    context.show(snapshot.raw, lambda: resource(snapshot))
    return Exit.OK


@command("cancel", "cancel a request", argument("id", help="request id"))
def _cancel(context: Context) -> int:
    with context.client() as client:
        snapshot = client.job(context.arguments.id).cancel()
    words = "canceled" if snapshot.ended else "will be canceled when its worker notices"
    context.show(snapshot.raw, lambda: f"{plain(snapshot.request_id)} {words}")
    return Exit.OK


def _how_many(parser: ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-n", "--limit", type=positive, default=20, metavar="N", help="number of requests (%(default)s)")
    group.add_argument("--all", action="store_true", help="every request on record")


@command(
    "list", "list recent requests, newest first",
    argument("-s", "--status", choices=STATES, help="only requests in this state"),
    argument("-m", "--model", help="only requests for this model, or for any"),
    _how_many,
)  # fmt: skip
def _list(context: Context) -> int:
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
    full = table("", "!request", "!accepted", "!state", "!requested", "!priority", "#took", "answer", rows=rows)
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
