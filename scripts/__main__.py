"""The processes of this host: start, stop, scale and watch them. ``make`` targets call these commands.

With --json, standard output gets one document, and progress goes to standard error.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from common.settings import get_settings, misspelt
from scripts import flower
from scripts.broker import BrokerError
from scripts.supervision import Busy, OperationError
from scripts.system import START_TIMEOUT, System

#: Commands that can tell their outcome as JSON.
AS_JSON = {"start", "stop", "restart", "scale"}


def start(system: System, arguments: argparse.Namespace) -> int:
    """Start everything and print the addresses."""
    sys.stderr.writelines(f"{line}\n" for line in misspelt())
    system.start(arguments.without)
    urls, logins = system.urls(), {"flower": f"  {flower.login(system.settings)}"}
    lines = [f"{name:<10} {url}{logins.get(name, '')}" for name, url in urls.items()]
    _tell(arguments, "\n".join(["Inferlane is up.", *lines, "Stop it with `make stop`."]), urls=urls)
    return 0


def stop(system: System, arguments: argparse.Namespace) -> int:
    """End everything."""
    system.stop()
    _tell(arguments, "Inferlane is stopped.", stopped=True)
    return 0


def restart(system: System, arguments: argparse.Namespace) -> int:
    """Stop, then start."""
    system.stop()
    return start(system, arguments)


def status(system: System, _arguments: argparse.Namespace) -> int:
    """One line per process; 1 when one of them does not run, or nothing does."""
    rows = system.rows()
    for row in rows:
        print(f"{row.name:<32} {row.state:<9} {row.description}")
    if not rows:
        print("Inferlane is not running.")
    return 0 if rows and all(row.state == "RUNNING" for row in rows) else 1


def scale(system: System, arguments: argparse.Namespace) -> int:
    """Change how many workers a model has, while everything runs."""
    if not arguments.replicas:
        raise OperationError(
            "nothing to scale: name a model and its number of workers, as in make scale efficientnet_lite0=3"
        )
    started, stopped = system.scale(dict(arguments.replicas), arguments.within)
    lines = [f"started: {', '.join(started) or 'none'}", f"stopped: {', '.join(stopped) or 'none'}",
             "Workers that ran before keep their thread count until `make restart`."]  # fmt: skip
    _tell(arguments, "\n".join(lines), started=started, stopped=stopped)
    return 0


def logs(system: System, _arguments: argparse.Namespace) -> int:
    """Follow the logs of all processes until interrupted."""
    files = sorted(str(path) for path in (system.folder / "logs").glob("*.log"))
    if not files:
        raise OperationError(f"no logs in {system.folder / 'logs'}: `make start` first")
    try:
        return subprocess.run(["tail", "-n", "20", "-F", *files], check=False).returncode
    except KeyboardInterrupt:
        return 0


def reset(system: System, _arguments: argparse.Namespace) -> int:
    """End everything and delete the run directory: queued requests, records, logs."""
    kept = (system.folder / "redis").exists()
    system.erase()
    what = "all requests and logs" if kept else "all logs; requests are in the Redis of REDIS_URL and stay there"
    print(f"Stopped; {os.path.relpath(system.folder)} is gone, with {what}.")
    return 0


COMMANDS: dict[str, Callable[[System, argparse.Namespace], int]] = {
    command.__name__: command for command in (start, stop, restart, status, scale, logs, reset)
}
#: Signals that end a command with nothing half done.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(number: int, _frame: object) -> None:
    """End the command; a second signal must not keep it from ending what it has started."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _tell(arguments: argparse.Namespace, text: str, **document: Any) -> None:
    """Print the outcome."""
    print(json.dumps(document) if arguments.json else text, file=arguments.out)


def _replicas(text: str) -> tuple[str, int]:
    model, _, count = text.partition("=")
    if not count.isdigit():
        raise OperationError(f"{text!r} is not MODEL=NUMBER, as in efficientnet_lite0=2")
    return model, int(count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts", description=__doc__)
    parser.set_defaults(json=False, out=sys.stdout)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.__doc__)
        if name in {"start", "restart"}:
            one.add_argument("--without", action="append", default=[], help="a Procfile line to leave out")
        if name == "scale":
            one.add_argument("replicas", nargs="*", type=_replicas, metavar="MODEL=NUMBER")
            one.add_argument("--within", type=float, default=START_TIMEOUT, help="seconds for new workers to start")
        if name in AS_JSON:
            one.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a failure is printed to standard error, with exit code 1."""
    os.umask(0o077)  # only this user may read the files under RUN_DIR
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    parsed = argparse.Namespace(json=False)
    try:
        parsed = _parser().parse_args(arguments)
        with redirect_stdout(sys.stderr if parsed.json else sys.stdout):
            return COMMANDS[parsed.command](System(get_settings()), parsed)
    except (OperationError, BrokerError) as error:
        print(error, file=sys.stderr)
        if parsed.json:
            failure = {"code": "failed", "message": str(error), "retryable": isinstance(error, Busy)}
            print(json.dumps({"error": failure}))
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
