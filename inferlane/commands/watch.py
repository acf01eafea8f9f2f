"""``watch``: follow a request or a batch to its end, event by event.

Where events do not arrive (a proxy buffers them, the API has no place for another waiting caller) it says so and polls.
Both ways give the same events.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from inferlane.answers import BatchSnapshot, Snapshot
from inferlane.commands.command import argument, command
from inferlane.commands.requests import details, footnote, predictions
from inferlane.console import Context, Exit, plain, table
from inferlane.errors import ClientError, NotFound, Timeout, Unavailable, UnexpectedAnswer
from inferlane.events import TOO_MANY, Event
from inferlane.jobs import Batch, Job
from inferlane.retries import Retries

LOOK_EVERY = 0.5  # seconds between two polls
OPEN = frozenset({"queued", "running"})


def look(handle: Job | Batch) -> list[Event]:
    """The events of a request so far, or the last one of a batch, by its status."""
    return history(handle.status()) if isinstance(handle, Job) else [counted(handle.status())]


def history(snapshot: Snapshot) -> list[Event]:
    """The events of a request so far, as the API numbers them."""
    found = [Event(str(place), entry["event"], entry) for place, entry in enumerate(snapshot.raw["timeline"], 1)]
    return [*found, Event(str(len(found) + 1), "end", snapshot.raw)] if snapshot.ended else found


def counted(snapshot: BatchSnapshot) -> Event:
    """The event of a batch of which so many items have ended."""
    ended = snapshot.counts["total"] - sum(snapshot.counts[state] for state in OPEN)
    return Event(str(ended), "end" if snapshot.ended else "progress", snapshot.raw)


def follow(context: Context, handle: Job | Batch) -> Iterator[Event]:
    """The events of ``handle`` up to its end; raises Timeout if it has not ended within the command's timeout."""
    until, last = time.monotonic() + context.timeout, "-1"
    try:
        for event in handle.events(context.timeout):
            last = event.id
            yield event
    except ClientError as error:
        busy = isinstance(error, Unavailable) and error.code == TOO_MANY
        if not (busy or isinstance(error, NotFound | UnexpectedAnswer)):
            raise
        context.log.print(f"no events: {plain(error)}; looking every {LOOK_EVERY:g} s instead", soft_wrap=True)
        yield from poll(handle, int(last), until)


def poll(handle: Job | Batch, last: int, until: float) -> Iterator[Event]:
    """The events of ``handle`` after number ``last`` up to its end, found by polling.

    Raises:
        Timeout: it has not ended when ``time.monotonic()`` is ``until``.
    """
    while True:
        for event in look(handle):
            if int(event.id) > last:
                yield event
                last = int(event.id)
            if event.name == "end":
                return
        if time.monotonic() > until:
            raise Timeout(f"{handle.kind.name} {handle.id} has not ended in time")
        time.sleep(LOOK_EVERY)


@command(
    "watch", "follow a request or a batch to its end", argument("id", help="id of a request or batch"),
    timeout=600.0, retries=Retries(patience=60.0),
)  # fmt: skip
def _watch(context: Context) -> int:
    name = context.arguments.id
    with context.client() as client:
        try:
            snapshot = client.job(name).status()
        except NotFound as unknown:
            try:
                client.batch(name).status()
            except NotFound:
                raise unknown from None
            return _end_of_batch(context, _print_events(context, client.batch(name), _counts))
        if not snapshot.ended and not context.json:
            context.print(_waiting(snapshot))
        return _end(context, Snapshot.of(_print_events(context, client.job(name), _entry)))


def _print_events(context: Context, handle: Job | Batch, line: Callable[[Event], str]) -> Mapping[str, Any]:
    """Print the events of ``handle``; the data of the last, the whole resource."""
    for event in follow(context, handle):
        if context.json:
            context.print_json({"id": event.id, "event": event.name, "data": event.data})
        elif text := line(event):
            context.print(text)
    data: Mapping[str, Any] = event.data
    return data


def _waiting(snapshot: Snapshot) -> str:
    facts = {"place": snapshot.queue_position, "to start in s": snapshot.eta and round(snapshot.eta, 1)}
    return plain("  ".join([snapshot.state, *(f"{name} {value}" for name, value in facts.items() if value)]))


def _entry(event: Event) -> str:
    """One entry of a request's timeline; its end says more below."""
    if event.name == "end":
        return ""
    at = f"{datetime.fromisoformat(event.data['at']).astimezone():%H:%M:%S.%f}"[:-3]
    return plain(f"{at}  {event.name:<10} {details(event.data)}".rstrip())


def _counts(event: Event) -> str:
    counts = event.data["counts"]
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count and state != "total")
    return plain(f"{event.id} of {counts['total']} ended: {parts}")


def _end(context: Context, snapshot: Snapshot) -> int:
    try:
        result = snapshot.result()
    except ClientError as error:
        context.log.print(f"{error.code}: {plain(error)}", style="red", soft_wrap=True)
        return Exit.FAILED
    if not context.json:
        context.print(predictions(result))
        context.print(footnote(result))
    return Exit.OK


def _end_of_batch(context: Context, document: Mapping[str, Any]) -> int:
    counts = document["counts"]
    if not context.json:
        context.print(table("", "state", "#items", rows=counts.items()))
        context.print(plain(f"the results: batch --results {document['batch_id']}"))
    return Exit.OK if counts["succeeded"] == counts["total"] else Exit.FAILED
