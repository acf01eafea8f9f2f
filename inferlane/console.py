"""What a command needs around it: the client, where to print, and how an error becomes an exit code.

Results go to standard output, progress and complaints to standard error. Text that came from a file name or from the
network is printed without markup, and control characters in it are replaced.
"""

from __future__ import annotations

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
from rich.table import Table

from inferlane import access
from inferlane.clients import AsyncClient, Client
from inferlane.errors import (
    AccessDenied,
    ClientError,
    ImageUnreadable,
    Timeout,
    Unavailable,
    Unreachable,
)
from inferlane.retries import Retries

WIDE = 1000  # columns; nothing of ours is wider


class Exit(IntEnum):
    """What a process that ended says to the one that started it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    INTERRUPTED = 130


class UsageError(Exception):
    """The command line asks for something that makes no sense; the message says what."""


def exit_code(error: ClientError) -> Exit:
    """The exit code that ``error`` stands for."""
    if isinstance(error, Unreachable | Unavailable):
        return Exit.UNREACHABLE
    if isinstance(error, Timeout):
        return Exit.TIMEOUT
    return Exit.USAGE if isinstance(error, ImageUnreadable) else Exit.FAILED


def error_document(error: ClientError) -> dict[str, Any]:
    """``error`` for a program that reads the output."""
    return {
        "code": error.code,
        "message": str(error),
        "retryable": error.retryable,
        "request_id": error.request_id,
    }


def advice(error: ClientError, *, has_key: bool) -> str:
    """What the user may do about ``error``; empty when that is plain.

    Args:
        error: what went wrong.
        has_key: whether an API key was given.
    """
    if isinstance(error, Unreachable):
        return "is Inferlane running there? --url or INFERLANE_URL say where to look"
    if isinstance(error, Timeout) and error.request_id:
        return f"if it was handed in, it goes on; wait for it with: watch {error.request_id}"
    if isinstance(error, AccessDenied):
        return access.advice(error, has_key=has_key)
    return ""


def plain(value: object) -> str:
    """``value`` as text that cannot steer a terminal; nothing for None."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "�" for sign in text)


def seconds(value: float | None) -> str:
    """A duration in seconds as people say it."""
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def table(title: str, *columns: str, rows: Iterable[Iterable[object]]) -> Table:
    """A table, as narrow as it can be.

    A column whose name begins with ``#`` is right-aligned; that and one with ``!`` are never broken into lines; one
    with ``~`` is cut where the screen ends.
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


def output(to_people: bool) -> Console:
    """Standard output; what a program or a file gets is never broken into lines to fit a screen."""
    return Console(markup=False, highlight=False, soft_wrap=False, width=None if to_people else WIDE)


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


@dataclass(frozen=True, slots=True)
class Context:
    """One run of a command.

    Attributes:
        arguments: the parsed command line.
        default_retries: how to retry, when the user does not say.
    """

    arguments: argparse.Namespace
    default_retries: Retries
    out: Console = field(default_factory=lambda: output(sys.stdout.isatty()))
    log: Console = field(default_factory=lambda: Console(stderr=True, markup=False, highlight=False))

    @property
    def json(self) -> bool:
        """Whether a program reads the output."""
        return bool(self.arguments.json)

    @property
    def timeout(self) -> float:
        """Seconds the whole thing, or each image of many, may take."""
        return float(self.arguments.timeout)

    @property
    def retries(self) -> Retries:
        """How to retry."""
        given = self.arguments.patience
        return self.default_retries if given is None else replace(self.default_retries, patience=given)

    def client(self) -> Client:
        """A client for the API that the command line names."""
        return Client(self.arguments.url, self.arguments.api_key, timeout=self.timeout, retries=self.retries)

    def async_client(self) -> AsyncClient:
        """The same to be awaited."""
        return AsyncClient(self.arguments.url, self.arguments.api_key, timeout=self.timeout, retries=self.retries)

    def show(self, document: Any, render: Callable[[], RenderableType]) -> None:
        """Print ``document`` as JSON if that was asked for, else what ``render`` makes."""
        if self.json:
            self.print_json(document)
        else:
            self.print(render())

    def print(self, what: RenderableType) -> None:
        """Print for people; text is never broken into lines, since scripts read it too."""
        self.out.print(what, soft_wrap=isinstance(what, str))

    def print_json(self, document: Any) -> None:
        """Print ``document`` as one line of JSON."""
        self.print(json.dumps(document))

    def complain(self, error: ClientError) -> Exit:
        """Tell about ``error``; the exit code for it."""
        if self.json:
            self.print_json({"error": error_document(error)})
        self.log.print(f"{error.code}: {plain(error)}", style="red", soft_wrap=True)
        if hint := advice(error, has_key=bool(self.arguments.api_key)):
            self.log.print(plain(hint), soft_wrap=True)
        return exit_code(error)
