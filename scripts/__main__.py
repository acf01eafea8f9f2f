"""The Makefile's commands: ``python -m scripts --help`` lists them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from common.settings import get_settings
from scripts import probes
from scripts.system import OperationError, System

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def start(system: System, arguments: argparse.Namespace) -> int:
    """Bring everything up and print where it is."""
    system.start(arguments.without)
    print("\n".join(["Inferlane is up.", *system.urls(), "Stop it with `make stop`."]))
    return 0


def stop(system: System, _arguments: argparse.Namespace) -> int:
    """End everything."""
    system.stop()
    print("Inferlane is stopped.")
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


def health(system: System, _arguments: argparse.Namespace) -> int:
    """What the API says of itself; 1 when it does not answer or is unhealthy."""
    return _show(system, "/health")


def workers(system: System, _arguments: argparse.Namespace) -> int:
    """Every live worker, as the API sees it."""
    return _show(system, "/workers/status")


def queue(system: System, _arguments: argparse.Namespace) -> int:
    """How many requests wait, by priority and lane."""
    return _show(system, "/queue/status")


def metrics(system: System, _arguments: argparse.Namespace) -> int:
    """Counters and latencies."""
    return _show(system, "/metrics")


def client(system: System, arguments: argparse.Namespace) -> int:
    """The command line of inferlane/ with this host's API and its ADMIN_KEY: client doctor, client chaos slow --all."""
    key = _key(system)
    own = {"INFERLANE_URL": system.settings.base_url} | ({"INFERLANE_API_KEY": key} if key else {})
    command = [sys.executable, "-m", "inferlane", *arguments.words]
    os.execve(sys.executable, command, own | os.environ)  # noqa: S606 - no shell, and Ctrl-C is the client's alone


def crash(system: System, _arguments: argparse.Namespace) -> int:
    """Kill one worker with SIGKILL and watch it come back."""
    name, seconds = system.crash()
    print(f"Killed {name}; it was back and ready after {seconds:.1f} s.")
    return 0


def scale(system: System, arguments: argparse.Namespace) -> int:
    """Change how many workers a model has, while everything runs."""
    wanted = dict(_replicas(text) for text in arguments.replicas)
    if not wanted:
        raise OperationError("say how many of which model: make scale mobilenet=3")
    system.scale(wanted)
    return 0


def logs(system: System, _arguments: argparse.Namespace) -> int:
    """Follow the logs of all processes until interrupted."""
    files = sorted(str(path) for path in (system.folder / "logs").glob("*.log"))
    if not files:
        raise OperationError(f"no logs in {system.folder / 'logs'}")
    try:
        return subprocess.run(["tail", "-n", "20", "-F", *files], check=False).returncode
    except KeyboardInterrupt:
        return 0


def reset(system: System, _arguments: argparse.Namespace) -> int:
    """End everything and delete what it kept: queued requests, records, logs."""
    kept = (system.folder / "redis").exists()
    system.erase()
    what = "all requests and logs" if kept else "all logs; requests are in the Redis of REDIS_URL and stay there"
    print(f"Stopped; {os.path.relpath(system.folder)} is gone, with {what}.")
    return 0


def _show(system: System, path: str) -> int:
    url = f"{probes.listeners(system.settings)[0].url}{path}"
    try:
        headers = {"Accept": "application/json", **_headers(system)}
        answer = httpx.get(url, headers=headers, timeout=10, trust_env=False)
    except httpx.TransportError as error:
        raise OperationError(f"the API does not answer: {error}") from error
    print(json.dumps(answer.json(), indent=2))
    return 0 if answer.status_code == 200 else 1


def _headers(system: System) -> dict[str, str]:
    key = _key(system)
    return {"X-API-Key": key} if key else {}


def _key(system: System) -> str:
    """The key to send; an ADMIN_KEY of which only the hash is known here opens nothing."""
    own = system.settings.admin_key
    return os.environ.get("INFERLANE_API_KEY") or ("" if own.startswith("sha256:") else own)


def _replicas(text: str) -> tuple[str, int]:
    model, _, count = text.partition("=")
    if not count.isdigit():
        raise OperationError(f"{text!r} is not MODEL=NUMBER")
    return model, int(count)


COMMANDS: dict[str, Callable[[System, argparse.Namespace], int]] = {
    command.__name__: command
    for command in (start, stop, restart, status, health, workers, queue, metrics, client, scale, crash, logs, reset)
}


#: Signals that end a command with nothing half done.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(number: int, _frame: object) -> None:
    """Let no second signal keep the command from ending what it has started."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a failure is said on standard error and is exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m scripts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.__doc__)
        if name in {"start", "restart"}:
            one.add_argument("--without", action="append", default=[], help="a Procfile line to leave out")
        if name == "client":
            one.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND ...")
        if name == "scale":
            one.add_argument("replicas", nargs="*", metavar="MODEL=NUMBER")
    parsed = parser.parse_args(arguments)
    os.umask(0o077)  # what lies under RUN_DIR is for this user's eyes alone
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    try:
        return COMMANDS[parsed.command](System(get_settings()), parsed)
    except OperationError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
