"""``load``: send photos at a rate for a while and report how long the answers took."""

import asyncio
import random
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from inferlane import images, traffic
from inferlane.commands.command import argument, command, options_of, positive, request_options
from inferlane.console import Context, Exit, UsageError, plain, progress, seconds, sections, table
from inferlane.errors import ImageUnreadable
from inferlane.images import Upload
from inferlane.operations import Parameters
from inferlane.retries import ONCE
from inferlane.traffic import Account, Ended, Shot


@command(
    "load", "send photos at a rate and measure the answers",
    argument("images", nargs="+", type=Path, help="photos and folders of photos, sent in rotation"),
    argument("-r", "--rate", type=float, default=10.0, metavar="N", help="requests per second (%(default)g)"),
    argument("-d", "--duration", type=float, default=10.0, metavar="SECONDS", help="(%(default)g)"),
    argument("--in-flight", type=positive, default=1000, metavar="N",
             help="most requests in flight; further ones are counted as unsent (%(default)s)"),
    argument("--seed", type=int, metavar="N", help="seed of the random arrival times"),
    request_options,
    retries=ONCE, timeout=30.0, timeout_of="time limit per request",
)  # fmt: skip
def _load(context: Context) -> int:
    given = context.arguments
    if given.rate <= 0 or given.duration <= 0:
        raise UsageError("rate and duration must be above 0")
    uploads = []
    for path in images.expand(given.images):
        try:
            uploads.append(images.read(path))
        except ImageUnreadable as error:
            context.log.print(f"left out: {plain(error)}", soft_wrap=True)
    if not uploads:
        raise UsageError("there are no photos in " + ", ".join(map(str, given.images)))
    with context.client() as client:
        client.models()  # no API, or a wrong key: said before anything is sent
    account = asyncio.run(_drive(context, uploads))
    document = account.document()
    context.show(document, lambda: _report(document))
    if account.latencies:
        return Exit.FAILED if account.errors else Exit.OK
    return Exit.UNREACHABLE if set(account.errors) <= {"unreachable", "broker_unavailable"} else Exit.FAILED


async def _drive(context: Context, uploads: list[Upload]) -> Account:
    given = context.arguments
    times = list(traffic.arrivals(given.rate, given.duration, random.Random(given.seed)))  # noqa: S311 - no secret
    context.log.print(f"sending {len(times)} requests in {given.duration:g} s")
    with progress(context.log) as bar:
        task = bar.add_task("", total=len(times))

        def show(account: Account, _ended: Ended | None) -> None:
            bad = account.errors.total()
            bar.update(task, completed=account.sent + account.unsent, description=f"{bad} failed" if bad else "")

        parameters: Parameters = {"model": given.model, **options_of(given)}
        shots = cycle([Shot(upload, parameters) for upload in uploads])
        async with context.async_client() as client:
            return await traffic.drive(client, shots, times, in_flight=given.in_flight, on_end=show)


def _report(document: Mapping[str, Any]) -> RenderableType:
    latency = document["latency"]
    rate = document["per_second"]
    facts = [(name, document[name]) for name in ("sent", "succeeded", "unsent") if document[name] is not None]
    facts += [("took", seconds(document["elapsed"])), ("answers per second", rate and f"{rate:.1f}")]
    parts: list[RenderableType] = [table("", "", "#", rows=facts)]
    parts.append(table("from scheduled start to answer", *(f"#{name}" for name in latency),
                       rows=[map(seconds, latency.values())]))  # fmt: skip
    if document["errors"]:
        parts.append(table(plain("errors"), "code", "#requests", rows=document["errors"].items()))
    return sections(parts)
