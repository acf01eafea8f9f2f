"""The command line: ``python -m inferlane COMMAND``.

Exit codes: 0 success, 1 something failed, 2 wrong usage, 3 the API is unreachable, 4 timeout, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from inferlane.address import DEFAULT_URL
from inferlane.commands import COMMANDS, Command
from inferlane.console import Context, Exit, UsageError
from inferlane.errors import ClientError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = command_line_parser()
    arguments = parser.parse_args(argv)
    command: Command = COMMANDS[arguments.command]
    context = Context(arguments, command.retries)
    try:
        return command.run(context)
    except ClientError as error:
        return context.complain(error)
    except (UsageError, ValueError) as error:
        context.log.print(f"{parser.prog} {arguments.command}: {error}", style="red", soft_wrap=True)
        return Exit.USAGE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def command_line_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(prog="inferlane", description="The command line of Inferlane's API.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help, epilog=command.epilog)
        _common(one, command)
        command.configure(one)
    return parser


def _common(parser: argparse.ArgumentParser, command: Command) -> None:
    where = parser.add_argument_group("the API")
    where.add_argument("--url", default=os.environ.get("INFERLANE_URL") or DEFAULT_URL,
                       help="address (INFERLANE_URL, else %(default)s)")  # fmt: skip
    where.add_argument("--api-key", default=os.environ.get("INFERLANE_API_KEY"),
                       help="better set as INFERLANE_API_KEY, because other users can see command lines")  # fmt: skip
    where.add_argument("--timeout", type=float, default=command.timeout, metavar="SECONDS",
                       help=f"{command.timeout_of} (%(default)g s)")  # fmt: skip
    where.add_argument("--patience", type=float, metavar="SECONDS",
                       help=f"retry an unreachable API for so long ({command.retries.patience:g} s)")  # fmt: skip
    where.add_argument("--json", action="store_true", help="print JSON, one document per line")
