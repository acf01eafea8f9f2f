"""Inferlane on one host: the Procfile's programs under a supervisord, with everything they write under ``RUN_DIR``."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from common.settings import ModelName, Settings
from scripts import probes
from scripts.supervision import (
    ROOT,
    WORKER,
    Busy,
    OperationError,
    ProcessRow,
    Supervisor,
    kinds,
    programs,
    saying,
    wait_for,
    worker_name,
)  # fmt: skip

START_TIMEOUT = 180.0
STOP_TIMEOUT = 150.0  # for the lock, while another command ends what runs
OPEN_FILES = 1024, 4096  # the least that suffices, and the limit to set: a connection of the API may need two
NO_WEIGHTS = "no weights for"  # how the reason begins
RESTARTS = 2  # of one program, while everything starts, after which it cannot
#: Commands that end the processes: they end any other command that holds the lock, and wait for each other.
ENDING = {"stop", "reset"}


class System:
    """The Inferlane of one run directory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(settings.run_dir).resolve()
        self.supervisor = Supervisor(self.folder)
        self._replicas_file = self.folder / "replicas.json"

    def start(self, without: Sequence[str] = ()) -> None:
        """Start everything and return when it answers.

        Raises:
            OperationError: a port is taken, no model is ready, or a program does not come up; nothing is left running.
        """
        with run_lock(self.folder, "start"):
            if self.supervisor.running():
                print("Already running.")
                self._wait_until_up([row.name for row in self.rows()])
            else:
                self._start(without)

    def _start(self, without: Sequence[str]) -> None:
        if unknown := set(without) - set(kinds()):
            raise OperationError(f"nothing here is called {', '.join(sorted(unknown))}; there are {', '.join(kinds())}")
        _allow_open_files()
        self._end_leftovers()
        models = [] if WORKER in without else ready_models(self.settings)
        replicas = {str(model): self._replicas().get(model, 1) for model in models}
        wanted = programs(replicas, without=without)
        if problems := probes.taken_ports(self.settings, {program.name for program in wanted}):
            raise OperationError("\n".join(problems))
        self.supervisor.write(wanted)
        self._replicas_file.write_text(json.dumps(replicas))
        try:
            self.supervisor.launch(self._environ(models))
            self._wait_until_up([program.name for program in wanted])
        except BaseException:  # a failure, Ctrl-C or a signal
            probes.end_own_processes(self.folder, grace=10.0)
            raise

    def stop(self) -> None:
        """End everything: the programs that accept requests, then the workers, then the broker.

        Raises:
            OperationError: another command still holds the lock.
        """
        if self.folder.exists():
            with run_lock(self.folder, "stop", STOP_TIMEOUT), saying("Waiting for running requests to end."):
                self._stop()

    def erase(self) -> None:
        """End everything and delete the run directory.

        Raises:
            OperationError: it holds other things, a process cannot be ended, or a file cannot be deleted.
        """
        if self.folder in {ROOT, Path.home(), *ROOT.parents}:
            raise OperationError(f"nothing deleted: RUN_DIR is {self.folder}, which holds other things")
        if not self.folder.exists():
            return
        with run_lock(self.folder, "reset", STOP_TIMEOUT):
            self._stop()
            if left := probes.own_processes(self.folder):
                names = ", ".join(f"process {process.pid}" for process in left)
                raise OperationError(f"nothing deleted: {names} in {self.folder} cannot be ended")
            try:
                shutil.rmtree(self.folder)
            except OSError as error:
                raise OperationError(f"not all of {self.folder} could be deleted: {error}") from error

    def _stop(self) -> None:
        if self.supervisor.running():
            names = [row.name for row in self.rows()]
            workers = _workers(names)
            self.supervisor.stop([name for name in names if name not in {*workers, "broker"}])
            self.supervisor.stop(workers)
            self.supervisor.shutdown()
            wait_for(lambda: not probes.own_processes(self.folder), timeout=15)
        self._end_leftovers()

    def scale(self, wanted: Mapping[str, int], timeout: float = START_TIMEOUT) -> tuple[list[str], list[str]]:
        """Run ``wanted`` workers of each model named; the others stay as they are.

        Returns:
            The names of the started and of the ended programs.

        Raises:
            OperationError: an unknown model, the system does not run, or one of those workers does not come up.
        """
        with run_lock(self.folder, "scale"):
            if not self.supervisor.running():
                raise OperationError("not running: `make start` first")
            current = self._replicas()
            if unknown := set(wanted) - set(current):
                raise OperationError(f"no such model here: {', '.join(sorted(unknown))}; ready: {', '.join(current)}")
            replicas = {**current, **wanted}
            self._replicas_file.write_text(json.dumps(replicas))
            running = {WORKER, *(row.name for row in self.rows())}
            self.supervisor.write(programs(replicas, without=[kind for kind in kinds() if kind not in running]))
            with saying("Waiting for workers to end."):
                changed = self.supervisor.update()
            self._wait_until_up(_workers(program.name for program in programs(wanted)), timeout, restarts=0)
            return changed

    def rows(self) -> list[ProcessRow]:
        """Every program and its state; empty when nothing runs."""
        return self.supervisor.rows() if self.supervisor.running() else []

    def urls(self) -> dict[str, str]:
        """The pages to open in a browser, by name."""
        names = {row.name for row in self.rows()}
        listeners = probes.listeners(self.settings)
        return {item.name: item.url for item in listeners if item.name in names} | {"docs": f"{listeners[0].url}/docs"}

    def _environ(self, models: Sequence[ModelName]) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        own = {probes.MARK: str(self.folder), "FLOWER_PORT": str(self.settings.flower_port), "PATH": path}
        # A request for a model that no worker can load must be refused, not kept until it expires.
        served = {"MODELS": ",".join(model.spelled for model in models)} if models else {}
        return {**os.environ, **own, **served}

    def _wait_until_up(self, names: Sequence[str], timeout: float = START_TIMEOUT, restarts: int = RESTARTS) -> None:
        """Wait until every listener among the programs ``names`` answers and every worker has a lease.

        Raises:
            OperationError: one has not within ``timeout`` seconds, or has been restarted more often than ``restarts``.
        """
        listeners = [item for item in probes.listeners(self.settings) if item.name in names]
        workers = _workers(names)
        starts: defaultdict[str, set[int]] = defaultdict(set)

        def problem() -> tuple[str, str] | None:
            """The first program that is not up, and why."""
            self._check_for_crashes([row for row in self.supervisor.rows() if row.name in names], starts, restarts)
            for item in listeners:
                if text := item.problem():
                    return item.name, text
            if missing := sorted(set(workers) - self._seen()) if workers else []:
                return missing[0], f"{missing[0]} has no lease"
            young = [row.name for row in self.supervisor.rows() if row.name in names and row.state == "STARTING"]
            return (young[0], f"{young[0]} has just been started") if young else None

        with saying(f"Waiting for {', '.join(names)}."):
            up = wait_for(lambda: not problem(), timeout, interval=0.2)
        if not up and (found := problem()):
            raise OperationError(
                f"After {timeout:g} s, {found[1]}; its log ends:\n{self.supervisor.log_tail(found[0])}"
            )

    def _check_for_crashes(self, rows: Iterable[ProcessRow], starts: defaultdict[str, set[int]], restarts: int) -> None:
        for row in rows:
            starts[row.name].add(row.started)
            if row.state == "FATAL" or len(starts[row.name]) > 1 + restarts:
                tail = self.supervisor.log_tail(row.name)
                raise OperationError(f"{row.name} does not stay up ({row.state}); its log ends:\n{tail}")

    def _seen(self) -> set[str]:
        """The programs of the workers that have a lease; a worker's name ends in the number of the replica."""
        seen = (name.rpartition("-") for name in probes.workers_seen(self.settings))
        return {worker_name(model, number) for model, _, number in seen}

    def _replicas(self) -> dict[str, int]:
        """How many workers each model has, or had when it last ran: `make scale` outlives a restart."""
        found: dict[str, int] = json.loads(self._replicas_file.read_text()) if self._replicas_file.exists() else {}
        return found

    def _end_leftovers(self) -> None:
        if number := probes.end_own_processes(self.folder):
            print(f"Ended {number} processes left over from an earlier run.")


def _workers(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{WORKER}-")]


def _allow_open_files() -> None:
    """Raise the limit of open files as far as it helps; raises OperationError if it cannot be raised far enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least, enough = OPEN_FILES
    highest = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
    if highest < least:
        raise OperationError(f"a process may open {highest} files here, {least} are needed: raise `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))


def ready_models(settings: Settings) -> tuple[ModelName, ...]:
    """The models of ``MODELS`` that have weights and a graph; prints which have none and why.

    Missing graphs are made. A custom model is loaded once, for its name.

    Raises:
        OperationError: none is ready, or two have the same name.
    """
    outcome = _prepare([entry.spelled for entry in settings.models])
    skipped = outcome["skipped"]
    brief = sorted(name for name, reason in skipped.items() if outcome["ready"] and reason.startswith(NO_WEIGHTS))
    for name in sorted(skipped.keys() - brief):
        print(f"not served: {name}: {skipped[name]}", flush=True)
    if brief:
        folder = f" (WEIGHTS_DIR: {settings.weights_dir})" if settings.weights_dir else ""
        print(f"not served, no weights: {', '.join(brief)}{folder}; docs/models.md", flush=True)
    order = {entry.factory or str(entry): place for place, entry in enumerate(settings.models)}
    found = sorted(map(ModelName, outcome["ready"]), key=lambda entry: order[entry.factory or str(entry)])
    if not found:
        raise OperationError("no model is ready, so there is nothing to serve")
    return tuple(found)


def _prepare(names: Sequence[str]) -> dict[str, dict[str, str]]:
    command = [sys.executable, "-m", "worker_models", "prepare", "--json", *names]
    with saying("Preparing the models."):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        outcome: dict[str, dict[str, str]] = json.loads(done.stdout)
    except ValueError:
        raise OperationError("`python -m worker_models prepare` failed, see above") from None
    return outcome


@contextmanager
def run_lock(folder: Path, command: str, timeout: float = 0.0) -> Iterator[None]:
    """Hold the lock of ``folder`` for the block: one command at a time starts, changes or ends its processes.

    With a timeout, another command that starts or changes them gets SIGTERM, and its end is awaited. The kernel
    releases the lock when its holder ends, so there is no stale lock.

    Raises:
        OperationError: another command still holds it after ``timeout`` seconds, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a+") as file:
            _lock(file, timeout)
            file.truncate(0)
            file.write(f"{os.getpid()} {command}")
            file.flush()
            yield
    except OSError as error:
        raise OperationError(f"RUN_DIR: {error}: set it to a folder that you may write to") from error


def _lock(file: TextIO, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    signaled = 0
    while True:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        file.seek(0)
        holder, _, command = file.read().partition(" ")
        pid = int(holder or 0)  # 0 before it has written
        if time.monotonic() >= deadline:
            raise Busy(
                f"`make {command or 'start'}` is under way here (process {pid}): wait until it ends, or `make stop`"
            )
        if command not in ENDING and pid not in (0, signaled):
            signaled = pid
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
