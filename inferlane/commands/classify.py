"""``classify``: one photo to look at, or a folder of thousands into a file.

An error that every photo would get (nothing answers, wrong key, no such model) ends the command; that of one photo
becomes its row. A photo that has not ended in time gets no row, so the next run sends it again.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Group

from inferlane import errors, images
from inferlane.commands.command import BRIEF, argument, command, options_of, positive, request_options
from inferlane.commands.requests import footnote, predictions, source
from inferlane.console import Context, Exit, UsageError, plain, progress
from inferlane.retries import Retries
from inferlane.rows import FORMATS, ForeignFile, RowFile, row_of

#: Errors that every photo would get.
GENERAL = (errors.Unreachable, errors.Unavailable, errors.AccessDenied, errors.UnknownModel, errors.UnexpectedAnswer)


@dataclass(slots=True)
class Progress:
    """Counts of the photos so far."""

    succeeded: int = 0
    failed: int = 0
    late: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """How many photos are done."""
        return self.succeeded + self.failed + self.late

    def add(self, error: errors.ClientError | None) -> bool:
        """Count one photo; whether it has ended and gets a row."""
        if isinstance(error, errors.Timeout):
            self.late += 1
        elif error is None:
            self.succeeded += 1
        else:
            self.failed += 1
        return not isinstance(error, errors.Timeout)

    def __str__(self) -> str:
        took = max(time.monotonic() - self.began, 1e-9)
        words = [f"{self.succeeded} classified in {took:.1f} s ({self.succeeded / took:.1f}/s)"]
        words += [f"{count} {name}" for count, name in ((self.failed, "failed"), (self.late, "not in time")) if count]
        return ", ".join(words)


@command(
    "classify", "classify photos and wait for the answers",
    argument("images", nargs="+", help="photos, folders of photos, or - for standard input"),
    argument("-o", "--output", type=Path, metavar="FILE", help="write one row per photo: .csv or .jsonl"),
    argument("--format", choices=FORMATS, help="output format (default: by the file name)"),
    argument("--fresh", action="store_true", help="overwrite the output instead of continuing it"),
    argument("-j", "--concurrency", type=positive, default=16, metavar="N", help="photos in flight (%(default)s)"),
    request_options,
    timeout=300.0, timeout_of="time limit per photo", retries=Retries(patience=120.0),
    epilog="After an interruption, run the same command again: it skips the photos that the output file has rows for.",
)  # fmt: skip
def _classify(context: Context) -> int:
    given = context.arguments
    if len(given.images) == 1 and given.output is None and not Path(given.images[0]).is_dir():
        return _one(context, given.images[0])
    if "-" in given.images:
        raise UsageError("standard input holds one photo; it cannot be mixed with others or written to a file")
    return _many(context, [Path(name) for name in given.images])


def _one(context: Context, name: str) -> int:
    given = context.arguments
    if name == "-" and sys.stdin.isatty():
        context.log.print("reading a photo from standard input")
    with replace(context, default_retries=BRIEF).client() as client:
        result = client.predict(source(name), given.model, **options_of(given))
    context.show(result.raw, lambda: Group(predictions(result, plain(Path(name).name)), footnote(result)))
    return Exit.OK


def _many(context: Context, paths: list[Path]) -> int:
    photos = list(images.expand(paths))
    if not photos:
        raise UsageError("there are no photos in " + ", ".join(map(str, paths)))
    tally = Progress()
    with ExitStack() as stack:
        done, failed, write = _sink(context, stack)
        todo = [path for path in photos if str(path) not in done]
        try:
            asyncio.run(_send(context, todo, write, tally))
        finally:
            _sum_up(context, tally, skipped=len(photos) - len(todo), failed=failed, left=len(todo) - tally.ended)
    if tally.late:
        return Exit.TIMEOUT
    return Exit.FAILED if tally.failed or failed else Exit.OK


def _sink(context: Context, stack: ExitStack) -> tuple[Collection[str], int, Callable[[Mapping[str, Any]], None]]:
    """The finished paths, the number of final failures, and the writer of rows."""
    given = context.arguments
    if given.output is None:
        return frozenset(), 0, context.print_json if context.json else lambda row: context.print(_line(row))
    form = given.format or {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(given.output.suffix.lower())
    if form is None:
        raise UsageError(f"the format of {given.output} is unknown: add --format csv or --format jsonl")
    try:
        file = stack.enter_context(RowFile(given.output, form, resume=not given.fresh))
    except (ForeignFile, OSError) as error:
        raise UsageError(str(error)) from error
    return file.done, file.failed, file.write


def _line(row: Mapping[str, Any]) -> str:
    if row["status"] == "succeeded":
        return plain(f"{row['path']}  {row['confidence']:.1%} {row['label']}")
    return plain(f"{row['path']}  {row['error_code']}: {row['error']}")


async def _send(
    context: Context, photos: list[Path], write: Callable[[Mapping[str, Any]], None], tally: Progress
) -> None:
    given = context.arguments
    with progress(context.log) as bar:
        task = bar.add_task("", total=len(photos))
        async with context.async_client() as client:
            outcomes = client.as_completed(
                photos, concurrency=given.concurrency, model=given.model, **options_of(given)
            )
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    if isinstance(outcome.error, GENERAL):
                        raise outcome.error
                    if tally.add(outcome.error):
                        write(row_of(outcome))
                    bar.update(task, advance=1, description=f"{tally.failed} failed" if tally.failed else "")


def _sum_up(context: Context, tally: Progress, *, skipped: int, failed: int, left: int) -> None:
    words = [str(tally)]
    if skipped:
        words.append(f"{skipped} were done before" + (f", {failed} of them failed" if failed else ""))
    if left:
        again = "; the same command goes on with them" if context.arguments.output else ""
        words.append(f"{left} are left{again}")
    context.log.print(", ".join(words), style="red" if left and sys.exc_info()[0] else "", soft_wrap=True)
