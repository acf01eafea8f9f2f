"""For all commands: the client, where to print, and the exit code of an error.

Results go to standard output, progress and errors to standard error. Text from a file name or from the network is
printed without markup, and control characters in it are replaced.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from inferlane.clients import AsyncClient, Client
from inferlane.errors import AccessDenied, ClientError, ImageUnreadable, Timeout, Unavailable, Unreachable
from inferlane.retries import Retries

WIDE = 1000  # columns; wider than any line
KEY = "INFERLANE_API_KEY"


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    INTERRUPTED = 130


class UsageError(Exception):
    """The command line is invalid; the message says why."""


def exit_code(error: ClientError) -> Exit:
    """The exit code that ``error`` stands for."""
    if isinstance(error, Unreachable | Unavailable):
        return Exit.UNREACHABLE
    if isinstance(error, Timeout):
        return Exit.TIMEOUT
    return Exit.USAGE if isinstance(error, ImageUnreadable) else Exit.FAILED


def advice(error: ClientError, *, has_key: bool) -> str:
    """What the user can do about ``error``; may be empty. ``has_key`` says whether an API key was given."""
    if isinstance(error, Unreachable):
        return "is Inferlane running there (`make start`)? --url or INFERLANE_URL say where to look"
    if isinstance(error, Timeout) and error.request_id:
        return f"if it was submitted, it goes on; wait for it with: watch {error.request_id}"
    return access_advice(error, has_key=has_key) if isinstance(error, AccessDenied) else ""


def access_advice(error: AccessDenied, *, has_key: bool) -> str:
    """How to get access: 401 means a missing or unknown key, 403 one that does not suffice."""
    if error.status == 401 and has_key:
        return (
            f"the API does not know this key; {KEY} must be its ADMIN_KEY, one of its API_KEYS (it reads both when it"
            " starts) or made by `keys create`"
        )
    if error.status == 401:
        return f"give an API key with {KEY} or --api-key; operators need the API's ADMIN_KEY"
    if has_key:
        return f"this is a user's key; give the API's ADMIN_KEY, or another administrator's key, with {KEY}"
    return (
        f"the API has no administrator's key: put ADMIN_KEY=... into its .env, restart it, and give the same with {KEY}"
    )


def plain(value: object) -> str:
    """``value`` as text that cannot steer a terminal; nothing for None."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "�" for sign in text)


def seconds(value: float | None) -> str:
    """A duration in a readable unit."""
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def table(title: str, *columns: str, rows: Iterable[Iterable[object]]) -> Table:
    """A table, as narrow as it can be.

    A column whose name begins with ``#`` is right-aligned; that and one with ``!`` are never wrapped; one with ``~`` is
    cut off at the edge of the screen.
    """
    names = [name.lstrip("#!~") for name in columns]
    made = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, show_edge=False, show_header=any(names),
                 padding=(0, 1, 0, 0), pad_edge=False)  # fmt: skip
    for name, column in zip(names, columns, strict=True):
        made.add_column(name, justify="right" if column[:1] == "#" else "left", no_wrap=column[:1] in {"#", "!"},
                        overflow="ellipsis" if column[:1] == "~" else "fold")  # fmt: skip
    for row in rows:
        made.add_row(*(plain(cell) for cell in row))
    return made


class Printer(Console):
    """A console that knows whether it has printed anything."""

    printed = False

    def print(self, *objects: Any, **style: Any) -> None:
        """Print."""
        self.printed = True
        super().print(*objects, **style)


def _output() -> Printer:
    """Standard output; lines for a program or a file are never broken."""
    return Printer(markup=False, highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else WIDE)


@dataclass(frozen=True, slots=True)
class Fitting:
    """The first of several forms of a table that fits the screen, or the last."""

    forms: Sequence[Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        *wider, narrowest = self.forms
        free = options.update(width=WIDE)
        fits = (form for form in wider if Measurement.get(console, free, form).maximum <= options.max_width)
        yield next(fits, narrowest)


def sections(parts: Iterable[RenderableType]) -> Group:
    """``parts`` one below the other, with an empty line between them."""
    first, *rest = parts
    return Group(first, *(line for part in rest for line in ("", part)))


class _Rate(ProgressColumn):
    """Photos per second."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="cyan")


def progress(console: Console) -> Progress:
    """A bar with count, rate and remaining time; disabled where there is no terminal."""
    return Progress(
        BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(), TextColumn("{task.description}"),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Context:
    """One run of a command; ``default_retries`` apply without --patience."""

    arguments: argparse.Namespace
    default_retries: Retries
    out: Printer = field(default_factory=_output)
    log: Printer = field(default_factory=lambda: Printer(stderr=True, markup=False, highlight=False))

    def printed(self) -> bool:
        """Whether anything has been printed."""
        return self.out.printed or self.log.printed

    @property
    def json(self) -> bool:
        """Whether ``--json`` was given."""
        return bool(self.arguments.json)

    @property
    def timeout(self) -> float:
        """Seconds that the command, or each image of many, may take."""
        return float(self.arguments.timeout)

    @property
    def retries(self) -> Retries:
        """When to try again."""
        given = self.arguments.patience
        return self.default_retries if given is None else replace(self.default_retries, patience=given)

    def client(self) -> Client:
        """A client for the API that the command line names."""
        return Client(self.arguments.url, self.arguments.api_key, timeout=self.timeout, retries=self.retries)

    def async_client(self) -> AsyncClient:
        """The same to be awaited."""
        return AsyncClient(self.arguments.url, self.arguments.api_key, timeout=self.timeout, retries=self.retries)

    def show(self, document: Any, render: Callable[[], RenderableType]) -> None:
        """Print ``document`` as JSON with --json, else what ``render`` makes."""
        if self.json:
            self.print_json(document)
        else:
            self.print(render())

    def print(self, what: RenderableType) -> None:
        """Print for people; lines of text are never broken, since scripts read them too."""
        self.out.print(what, soft_wrap=isinstance(what, str))

    def print_json(self, document: Any) -> None:
        """Print ``document`` as one line of JSON."""
        self.print(json.dumps(document))

    def complain(self, error: ClientError) -> Exit:
        """Print ``error``; the exit code for it."""
        if self.json:
            kept = {"code": error.code, "message": str(error), "retryable": error.retryable}
            self.print_json({"error": kept | {"request_id": error.request_id}})
        self.log.print(f"{error.code}: {plain(error)}", style="red", soft_wrap=True)
        if hint := advice(error, has_key=bool(self.arguments.api_key)):
            self.log.print(plain(hint), soft_wrap=True)
        return exit_code(error)
