"""supervisord: its configuration, made from the Procfile, and the calls to a running one.

supervisord starts the programs, restarts those that die, and ends each with all its children. The Procfile's line
``worker`` stands for a program per replica of each model.
"""

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy  # nosec B411 # our own supervisord

from honcho.environ import parse_procfile
from supervisor.xmlrpc import SupervisorTransport

from common.settings import socket_path
from scripts import broker

ROOT = Path(__file__).resolve().parent.parent
WORKER = "worker"
START_ORDER = {"broker": 1, WORKER: 2, "api": 3}
# Seconds between SIGTERM and SIGKILL, for programs that may be busy.
STOP_SECONDS = {"api": 45, WORKER: 60, "broker": 30, "flower": 3}
#: The variable that tells supervisord where the code is.
CODE = "INFERLANE_ROOT"

#: The configuration, and in it the section of a program, with their variables in braces.
TEMPLATE = Path(__file__).with_name("supervisord.conf")


class OperationError(RuntimeError):
    """A command cannot be carried out; the message says why and ends it."""


class Busy(OperationError):
    """Another command is under way; later, this one can be carried out."""


@dataclass(frozen=True)
class Program:
    """One process to keep running: its name, its line of the Procfile, its shell command line, its own variables."""

    name: str
    kind: str
    command: str
    environ: Mapping[str, str] = field(default_factory=dict)


def kinds() -> dict[str, str]:
    """The lines of the Procfile: kind of process -> command."""
    lines: dict[str, str] = parse_procfile((ROOT / "Procfile").read_text()).processes
    return lines


def programs(replicas: Mapping[str, int], *, without: Sequence[str] = ()) -> list[Program]:
    """Every program of this host, with so many ``replicas`` of each model's worker, ``without`` these Procfile names.

    Workers get the number of workers on the host, to divide its cores among them.
    """
    found: list[Program] = []
    total = str(sum(replicas.values()))
    for kind, command in kinds().items():
        if kind != WORKER:
            found.append(Program(kind, kind, command))
            continue
        for model, count in replicas.items():
            for number in range(1, count + 1):
                environ = {"MODEL": model, "REPLICA": str(number), "WORKERS_ON_HOST": total}
                found.append(Program(worker_name(model, number), kind, command, environ))
    return [program for program in found if program.kind not in without]


def worker_name(model: str, number: int | str) -> str:
    """The program name of one worker; characters that mean something to supervisord become dashes."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{WORKER}-{model}-{number}")


def configuration(programs: Iterable[Program], folder: Path) -> str:
    """The text of a supervisord configuration that runs ``programs`` with their files in ``folder``."""
    user = "user=root\n" if os.geteuid() == 0 else ""  # explicit, or supervisord warns about it
    path = _socket(folder)
    socket = path.name if path.parent == folder else str(path)
    header, start, section = TEMPLATE.read_text().partition("[program:")
    return header.format(socket=socket, user=user) + "\n".join(_filled(start + section, each) for each in programs)


def _filled(section: str, program: Program) -> str:
    return section.format(
        name=program.name,
        # exec: the signal must reach the program, not a shell around it.
        command=_escaped(shlex.quote(f"exec {program.command}")),
        environ=",".join(f'{key}="{_escaped(value)}"' for key, value in program.environ.items()),
        priority=START_ORDER.get(program.kind, 9),
        stop_seconds=STOP_SECONDS.get(program.kind, 10),
        root=CODE,
    )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _socket(folder: Path) -> Path:
    return socket_path(folder, "supervisor.sock")


@dataclass(frozen=True)
class ProcessRow:
    """One program as supervisord sees it; ``started`` is epoch seconds, ``pid`` 0 when it does not run."""

    name: str
    state: str
    pid: int
    started: int
    description: str


class Supervisor:
    """The supervisord of the run directory ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._file = self.folder / "supervisord.conf"

    def write(self, programs: Iterable[Program]) -> None:
        """Write the configuration that :meth:`launch` and :meth:`update` read."""
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        if (folder := _socket(self.folder).parent) != self.folder:
            broker.private(folder)
        self._file.write_text(configuration(programs, self.folder))

    def launch(self, environ: Mapping[str, str]) -> None:
        """Start supervisord in the background; it starts all programs; raises OperationError if it refused to start."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", self._file.name]
        done = subprocess.run(
            command, cwd=self.folder, env={**environ, CODE: str(ROOT)}, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise OperationError(f"supervisord does not start: {' '.join((done.stderr or done.stdout).split()[-60:])}")

    def running(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OperationError, Fault):
            return False

    def rows(self) -> list[ProcessRow]:
        """Every program, in the order they start."""
        return [
            ProcessRow(row["name"], row["statename"], row["pid"], row["start"], row["description"])
            for row in self._call("getAllProcessInfo")
        ]

    def update(self) -> tuple[list[str], list[str]]:
        """Start programs that are new in the configuration, end those that are gone, leave the others alone.

        Returns the names of the started and of the ended programs.
        """
        added, _changed, removed = self._call("reloadConfig")[0]
        self.stop(removed)
        for name in removed:
            self._call("removeProcessGroup", name)
        for name in added:
            self._call("addProcessGroup", name)
        return added, removed

    def stop(self, names: Sequence[str], timeout: float = 90.0) -> None:
        """End ``names`` together and wait; supervisord kills those that exceed their stop time."""
        for name in names:
            try:
                self._call("stopProcess", name, False)
            except Fault as fault:
                if "NOT_RUNNING" not in fault.faultString:
                    raise
        ended = {"STOPPED", "EXITED", "FATAL"}
        wait_for(lambda: all(row.state in ended for row in self.rows() if row.name in names), timeout)

    def shutdown(self) -> None:
        """End all programs, then supervisord itself; returns at once."""
        self._call("shutdown")

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The last lines that program ``name`` wrote."""
        path = self.folder / "logs" / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def _call(self, method: str, *arguments: Any) -> Any:
        # A proxy each: the transport keeps one connection and does not survive supervisord closing it.
        transport = SupervisorTransport(None, None, f"unix://{_socket(self.folder)}")
        try:
            with ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, HTTPException) as error:
            raise OperationError(f"the supervisor does not answer: {error}") from error


@contextmanager
def saying(text: str) -> Iterator[None]:
    """Write ``text`` to standard error if the block takes longer than two seconds."""
    timer = threading.Timer(2.0, print, [text], {"file": sys.stderr})
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def wait_for(condition: Callable[[], bool], timeout: float, interval: float = 0.1) -> bool:
    """Whether ``condition()`` became true within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
