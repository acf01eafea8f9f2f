"""``submit``, ``get``, ``cancel``: one request, from its image or its id."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from inferlane.answers import Result, Snapshot
from inferlane.commands.command import Command, add_options, options_of
from inferlane.console import Context, Exit, plain, seconds, sections, table
from inferlane.images import Source
from inferlane.retries import Retries

_HIDDEN = frozenset({"request_id", "predictions", "timeline", "timings", "urls", "error", "status", "timestamp"})


def source(text: str) -> Source:
    """An image named on the command line; ``-`` is standard input."""
    return sys.stdin.buffer.read() if text == "-" else text


def predictions(result: Result, title: str = "") -> Table:
    """The classes of an answer."""
    rows = ((f"{item.confidence:.2%}", item.label, item.index) for item in result.predictions)
    return table(title, "#confidence", "class", "#index", rows=rows)


def footnote(result: Result) -> str:
    """Who answered, with which weights, in what time."""
    taken = "" if result.processing_time is None else f" in {seconds(result.processing_time)}"
    return plain(f"{result.model} ({result.weights} weights) on {result.worker_id}{taken}, request {result.request_id}")


def resource(snapshot: Snapshot) -> RenderableType:
    """Everything about a request."""
    facts = [(name, value) for name, value in snapshot.raw.items() if name not in _HIDDEN and value is not None]
    parts: list[RenderableType] = [table("", "request", snapshot.request_id, rows=facts)]
    if timings := snapshot.raw.get("timings"):
        parts.append(
            table("", *(f"#{name}" for name in timings), rows=[[seconds(value) for value in timings.values()]])
        )
    if timeline := snapshot.raw.get("timeline"):
        parts.append(table("", "at", "event", "", rows=(_event(entry) for entry in timeline)))
    if snapshot.state == "succeeded":
        parts.append(predictions(snapshot.result()))
    elif error := snapshot.raw.get("error"):
        parts.append(plain(f"{error['code']}: {error['message']}"))
    return sections(parts)


def _event(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    rest = ", ".join(f"{name} {value}" for name, value in entry.items() if name not in {"at", "event"})
    return str(entry["at"]), str(entry["event"]), rest


def _one_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", help="a photo, or - for standard input")
    parser.add_argument("--request-id", help="your own id; the same id and photo run once")
    add_options(parser)


def _one_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="the id that submit printed")


def _submit(context: Context) -> int:
    given = context.arguments
    with context.client() as client:
        job = client.submit(source(given.image), given.model, request_id=given.request_id, **options_of(given))
    context.show({"request_id": job.id}, lambda: job.id)
    return Exit.OK


def _get(context: Context) -> int:
    with context.client() as client:
        snapshot = client.job(context.arguments.id).status()
    context.show(snapshot.raw, lambda: resource(snapshot))
    return Exit.OK


def _cancel(context: Context) -> int:
    with context.client() as client:
        snapshot = client.job(context.arguments.id).cancel()
    words = "canceled" if snapshot.ended else "will be canceled when its worker notices"
    context.show(snapshot.raw, lambda: f"{plain(snapshot.request_id)} {words}")
    return Exit.OK


SUBMIT = Command(
    name="submit",
    help="hand one photo in and print its id",
    run=_submit,
    configure=_one_image,
    retries=Retries(patience=10.0),
)
GET = Command(name="get", help="show a request", run=_get, configure=_one_id)
CANCEL = Command(name="cancel", help="cancel a request", run=_cancel, configure=_one_id)
