"""What a command needs around it: the client, where to print, and how an error becomes an exit code.

Results go to standard output, progress and complaints to standard error. Text that came from a file name or from the
network is printed without markup, and control characters in it are replaced.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from client.asynchronous import AsyncClient
from client.errors import (
    AccessDenied,
    ClientError,
    ImageUnreadable,
    Timeout,
    Unavailable,
    Unreachable,
)
from client.retries import Retries
from client.synchronous import Client


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


def advice(error: ClientError) -> str:
    """What the user may do about ``error``; empty when that is plain."""
    if isinstance(error, Unreachable):
        return "is Inferlane running there? --url or INFERLANE_URL say where to look"
    if isinstance(error, Timeout) and error.request_id:
        return f"it goes on; wait for it with: watch {error.request_id}"
    if isinstance(error, AccessDenied):
        return "give an API key with INFERLANE_API_KEY or --api-key"
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
    """A table; a column whose name begins with ``#`` is right-aligned."""
    made = Table(title=title or None, title_justify="left")
    for name in columns:
        made.add_column(name.removeprefix("#"), justify="right" if name.startswith("#") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(plain(cell) for cell in row))
    return made


@dataclass(frozen=True, slots=True)
class Context:
    """One run of a command.

    Attributes:
        arguments: the parsed command line.
        default_retries: how to retry, when the user does not say.
    """

    arguments: argparse.Namespace
    default_retries: Retries
    out: Console = field(default_factory=lambda: Console(markup=False, highlight=False, soft_wrap=False))
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
        if hint := advice(error):
            self.log.print(plain(hint), soft_wrap=True)
        return exit_code(error)
