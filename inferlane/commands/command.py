"""A command, the decorator that makes a function one, and arguments that several commands share."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inferlane.console import Context
from inferlane.operations import Options
from inferlane.retries import Retries

BRIEF = Retries(patience=3.0)  # for commands that only look
#: Adds an argument, or several, to a parser or a group of it.
Argument = Callable[[Any], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        run: carries it out; returns the exit code.
        timeout: seconds it may take, without --timeout; ``timeout_of`` explains it in the help.
        retries: when it tries again, without --patience.
        remote: whether it asks the API, so that it takes the arguments of a call.
    """

    name: str
    help: str
    arguments: tuple[Argument, ...]
    run: Callable[[Context], int]
    timeout: float = 60.0
    timeout_of: str = "total time limit"
    retries: Retries = BRIEF
    epilog: str = ""
    remote: bool = True


def command(name: str, about: str, *arguments: Argument, **more: Any) -> Callable[[Callable[[Context], int]], Command]:
    """Make a function the command ``name``; ``more`` are further attributes of :class:`Command`."""
    return lambda run: Command(name=name, help=about, arguments=arguments, run=run, **more)


def argument(*names: str, **options: Any) -> Argument:
    """An argument with the options of ``add_argument``."""
    return lambda parser: parser.add_argument(*names, **options)


as_json = argument("--json", action="store_true", help="print JSON, one document per line")


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def request_options(parser: argparse.ArgumentParser) -> None:
    """The parameters of a request."""
    group = parser.add_argument_group("the request")
    group.add_argument("-m", "--model", default="any", help="model (%(default)s)")
    group.add_argument("-p", "--priority", choices=("high", "normal", "low"), default="normal", help="(%(default)s)")
    group.add_argument("-k", "--top-k", type=positive, default=5, metavar="N", help="number of classes (%(default)s)")
    group.add_argument("--deadline", type=float, metavar="SECONDS", help="expire the request after this time")


def options_of(arguments: argparse.Namespace) -> Options:
    """The arguments of :func:`request_options`, but for the model."""
    return {"priority": arguments.priority, "top_k": arguments.top_k, "deadline": arguments.deadline}
