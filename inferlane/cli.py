"""The command line: ``inferlane COMMAND``, which is also ``python -m inferlane COMMAND``.

Exit codes: 0 success, 1 something failed, 2 wrong usage, 3 the API is unreachable, 4 timeout, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from inferlane import __version__, checkout
from inferlane.commands import COMMANDS, Command
from inferlane.commands.command import as_json
from inferlane.connection import DEFAULT_URL
from inferlane.console import Context, Exit, UsageError
from inferlane.errors import ClientError
from inferlane.waiting import Waiting


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parsed(sys.argv[1:] if argv is None else argv)
    command: Command = COMMANDS[arguments.command]
    context = Context(arguments, command.retries)
    try:
        if not command.remote:
            return command.run(context)
        arguments.url, arguments.api_key = checkout.address(arguments.url, arguments.api_key)
        with Waiting(context):
            return command.run(context)
    except ClientError as error:
        return context.complain(error)
    except (UsageError, ValueError) as error:
        context.log.print(f"inferlane {arguments.command}: {error}", style="red", soft_wrap=True)
        return Exit.USAGE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The command line; a command's options may stand between its words."""
    parser = command_line_parser()
    parsers: Mapping[str, argparse.ArgumentParser] = parser.get_default("parsers")
    command = parsers.get(words[0]) if words else None
    if command is None or "--" in words:  # what stands behind `--` is lost when options are intermixed
        return parser.parse_args(words or ["--help"])
    return command.parse_intermixed_args(words[1:])


def command_line_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(prog="inferlane", description="The command line of Inferlane's API.")
    parser.add_argument("--version", action="version", version=f"inferlane {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help, epilog=command.epilog)
        if command.remote:
            _call_arguments(one, command)
        for add in command.arguments:
            add(one)
        one.set_defaults(command=name, parsers=commands.choices)
    parser.set_defaults(parsers=commands.choices)
    return parser


def _call_arguments(parser: argparse.ArgumentParser, command: Command) -> None:
    where = parser.add_argument_group("the API")
    where.add_argument("--url", help=f"address (INFERLANE_URL, else that of the checkout, else {DEFAULT_URL})")
    where.add_argument("--api-key",
                       help="better set as INFERLANE_API_KEY, because other users can see command lines")  # fmt: skip
    where.add_argument("--timeout", type=float, default=command.timeout, metavar="SECONDS",
                       help=f"{command.timeout_of} (%(default)g s)")  # fmt: skip
    where.add_argument("--patience", type=float, metavar="SECONDS",
                       help=f"retry an unreachable API for so long ({command.retries.patience:g} s)")  # fmt: skip
    as_json(where)
