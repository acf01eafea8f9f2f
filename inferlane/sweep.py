"""Classifying many photos from the command line: the loop, the counting and the progress bar.

An error that would be the same for every photo (nobody answers, wrong key, no such model) ends the sweep; one that
belongs to a photo becomes its row. A photo that has not ended in time gets no row, so the next run takes it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from inferlane.clients import AsyncClient
from inferlane.errors import (
    AccessDenied,
    ClientError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    UnknownModel,
    Unreachable,
)
from inferlane.operations import Parameters
from inferlane.rows import row_of

#: Errors that say nothing about the photo at hand.
GENERAL = (Unreachable, Unavailable, AccessDenied, UnknownModel, UnexpectedAnswer)


@dataclass(slots=True)
class Tally:
    """How a sweep went so far."""

    succeeded: int = 0
    failed: int = 0
    late: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """How many photos are through."""
        return self.succeeded + self.failed + self.late

    def __str__(self) -> str:
        took = max(time.monotonic() - self.began, 1e-9)
        words = [f"{self.succeeded} classified in {took:.1f} s ({self.succeeded / took:.1f}/s)"]
        words += [f"{count} {name}" for count, name in ((self.failed, "failed"), (self.late, "not in time")) if count]
        return ", ".join(words)


async def sweep(
    client: AsyncClient, photos: Sequence[Path], write: Callable[[Mapping[str, Any]], None], console: Console, *,
    concurrency: int, parameters: Parameters, tally: Tally,
) -> None:  # fmt: skip
    """Classify ``photos``, ``concurrency`` at a time, and ``write`` a row for each that has ended.

    Raises:
        ClientError: one that the remaining photos would meet as well.
    """
    with progress(console) as bar:
        task = bar.add_task("", total=len(photos))
        outcomes = client.as_completed(photos, concurrency=concurrency, **parameters)
        async with aclosing(outcomes):
            async for outcome in outcomes:
                if isinstance(outcome.error, GENERAL):
                    raise outcome.error
                if count(tally, outcome.error):
                    write(row_of(outcome))
                bar.update(task, advance=1, description=f"{tally.failed} failed" if tally.failed else "")


def count(tally: Tally, error: ClientError | None) -> bool:
    """Count one photo; whether it has ended and deserves a row."""
    if isinstance(error, Timeout):
        tally.late += 1
        return False
    if error is None:
        tally.succeeded += 1
    else:
        tally.failed += 1
    return True


class _Rate(ProgressColumn):
    """Photos per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="cyan")


def progress(console: Console) -> Progress:
    """A bar with count, rate and remaining time; on something that is no terminal only its last state appears."""
    return Progress(
        BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), TextColumn("{task.description}"),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
