"""``batch``: many photos in as few calls as the API's limits allow."""

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from inferlane import images
from inferlane.answers import BatchSnapshot, Outcome
from inferlane.commands.command import argument, command, options_of, positive, request_options
from inferlane.commands.watch import follow
from inferlane.console import Context, Exit, UsageError, plain, progress, table
from inferlane.jobs import Batch
from inferlane.retries import Retries
from inferlane.rows import row_of

MAX_BYTES = 24 * 1024 * 1024  # of photos in one call; the API takes bodies of 32 MiB by default


def _other_orders(parser: ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--detach", action="store_true", help="print the batch ids and do not wait")
    what.add_argument("--status", metavar="ID", help="show the progress of a batch")
    what.add_argument("--results", metavar="ID", help="print the results of a batch so far")
    what.add_argument("--cancel", metavar="ID", help="cancel the open requests of a batch")


@command(
    "batch", "classify many photos per call",
    argument("images", nargs="*", type=Path, help="photos and folders of photos"),
    _other_orders,
    argument("--items", type=positive, default=64, metavar="N", help="photos per call (%(default)s)"),
    request_options,
    timeout=600.0, retries=Retries(patience=30.0),
)  # fmt: skip
def _batch(context: Context) -> int:
    given = context.arguments
    with context.client() as client:
        if given.status:
            return _show(context, client.batch(given.status).status())
        if given.cancel:
            return _show(context, client.batch(given.cancel).cancel())
        if given.results:
            return _outcomes(context, client.batch(given.results).outcomes())
        failed, photos = _sorted_out(images.expand(given.images))
        sent = [client.submit_batch(part, given.model, **options_of(given)) for part in parts(photos, given.items)]
        if given.detach:
            for batch in sent:
                context.show({"batch_id": batch.id}, partial(plain, batch.id))
            return Exit.OK
        return _outcomes(context, [*failed, *_wait(context, sent, len(photos))])


def _sorted_out(paths: Iterable[Path]) -> tuple[list[Outcome], list[Path]]:
    """Outcomes for the files that cannot be read, and the others.

    Raises:
        ClientError: no file can be read.
        UsageError: there is none.
    """
    found = [(path, images.unreadable(path)) for path in paths]
    failed = [Outcome(0, path, error=error) for path, error in found if error]
    if not found:
        raise UsageError("name photos or folders with photos")
    if len(failed) == len(found):
        failed[0].unwrap()
    return failed, [path for path, error in found if not error]


def parts(photos: Iterable[Path], items: int, size: int = MAX_BYTES) -> Iterator[list[Path]]:
    """``photos`` in groups of at most ``items`` and ``size`` bytes; a larger photo is alone."""
    part: list[Path] = []
    total = 0
    for photo in photos:
        weight = photo.stat().st_size if photo.exists() else 0
        if part and (len(part) == items or total + weight > size):
            yield part
            part, total = [], 0
        part.append(photo)
        total += weight
    if part:
        yield part


def _wait(context: Context, sent: list[Batch], total: int) -> Iterator[Outcome]:
    with progress(context.log) as bar:
        task, done = bar.add_task("", total=total), 0
        for batch in sent:
            for event in follow(context, batch):
                bar.update(task, completed=done + int(event.id))
            yield from (outcomes := batch.outcomes())
            done += len(outcomes)


def _show(context: Context, snapshot: BatchSnapshot) -> int:
    words = "completed" if snapshot.ended else "running"
    context.show(snapshot.raw, lambda: table(
        plain(f"{snapshot.batch_id} {words}"), "state", "#items", rows=snapshot.counts.items()
    ))  # fmt: skip
    return Exit.OK


def _outcomes(context: Context, outcomes: list[Outcome]) -> int:
    rows = [row_of(outcome) for outcome in outcomes]
    if context.json:
        for row in rows:
            context.print_json(row)
    else:
        cells = ((row["path"], row["label"] or row["error"], row["confidence"] and f"{row['confidence']:.1%}",
                  row["model"] or row["error_code"]) for row in rows)  # fmt: skip
        context.print(table("", "photo", "class", "#confidence", "model", rows=cells))
    return Exit.FAILED if any(outcome.error for outcome in outcomes) else Exit.OK
