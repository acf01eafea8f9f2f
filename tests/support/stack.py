"""A small Inferlane of real processes for one test or one module: workers and APIs on a given Redis.

Everything started through a :class:`Stack` has ended when the stack is closed, also when the test failed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
import pytest

from common.settings import Settings, load_settings, variables
from tests.support.hosts import Host
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.waiting import wait_until

_PYTHON = os.path.realpath(sys.executable)

#: Runs a test twice: with images in Redis, and in a folder.
EACH_STORE = pytest.mark.parametrize("payload_store", ["redis", "file"], indirect=True)


class WorkerProcess(Process):
    """A Celery worker; ``node`` is its full name, as the lease and the responses give it.

    What was started is its guardian, which ends as the worker ends; ``pid`` is the worker's own.
    """

    node: str
    model: str
    _worker: int = 0

    @property
    def pid(self) -> int:
        if not self._worker:
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(self.guardian).children()
                # On another host a shell runs first, and it starts the program hostname.
                self._worker = next((child.pid for child in children if child.exe() == _PYTHON), 0)
        return self._worker or self.guardian

    @property
    def guardian(self) -> int:
        return self._popen.pid


class ApiProcess(Process):
    """The API under its server; ``client`` is an httpx client with its address as the base URL."""

    url: str
    client: httpx.Client


class Stack:
    """Real workers and APIs on the Redis at ``redis_url``; ``environ`` holds settings for all of them.

    They run the source tree at ``root``: this one, or a copy from :mod:`tests.support.mutants`.
    """

    def __init__(self, redis_url: str, folder: Path, *, root: Path = ROOT, **environ: object) -> None:
        self.folder = folder
        self.root = root
        self.redis_url = redis_url
        self._extra = {"REDIS_URL": redis_url, "RUN_DIR": str(folder), **_texts(environ)}
        self._open = contextlib.ExitStack()
        self._processes: list[Process] = []

    def environ(self, **extra: object) -> dict[str, str]:
        """The environment of a process of this stack; variables of a developer's shell do not leak in."""
        kept = {key: value for key, value in os.environ.items() if key not in variables()}
        # A developer's .env is read too, and an empty variable keeps the default: so state every one. Only the server
        # program that the tests were asked to run is passed on.
        server = {"REDIS_SERVER": os.environ.get("REDIS_SERVER", "")}
        return kept | dict.fromkeys(variables(), "") | server | self._extra | _texts(extra)

    def settings(self, **extra: object) -> Settings:
        """The settings its processes see."""
        return load_settings(self.environ(**extra))

    def start_worker(
        self, model: str, *, name: str | None = None, arguments: Sequence[str] = (), ready: bool = True,
        timeout: float = 60.0, host: Host | None = None, **environ: object,
    ) -> WorkerProcess:  # fmt: skip
        """Start ``celery -A tasks worker --model MODEL`` and, with ``ready``, wait until its lease is seen.

        With ``host`` it runs there and has the name of that host.
        """
        name = name or f"{model.replace('.', '-').replace(':', '-')}-{len(list(self.folder.glob('worker-*'))) + 1}"
        command = [
            sys.executable, "-m", "celery", "-A", "tasks", "worker", "--model", model, "-n", f"{name}@%h",
            "-P", "threads", *arguments,
        ]  # fmt: skip
        given = self.environ(**environ)
        command = host.inside(command) if host else command
        process = WorkerProcess(command, name=f"worker-{name}", folder=self.folder, environ=given, root=self.root)
        self._processes.append(process)
        self._open.callback(process.stop)
        process.model = model
        process.node = f"{name}@{host.name if host else socket.gethostname()}"
        if ready:
            self.wait_for_worker(process, timeout)
        return process

    def wait_for_worker(self, process: WorkerProcess, timeout: float = 60.0) -> dict[str, Any]:
        """The monitor's row of ``process``, as soon as there is one."""
        from tasks.inspect.monitor import Monitor

        monitor = Monitor(self.settings())

        def row() -> dict[str, Any] | None:
            process.check_alive()
            return next((dict(row) for row in monitor.workers() if row["pid"] == process.pid), None)

        try:
            return wait_until(row, timeout) or {}
        except TimeoutError as late:
            raise TimeoutError(
                f"no lease of {process.name}, pid {process.pid}: {monitor.workers()}\n{process.log()}"
            ) from late

    def start_api(self, *, workers: int | None = 1, timeout: float = 30.0, **environ: object) -> ApiProcess:
        """Start the API on a free port and wait until ``/livez`` answers 200.

        ``workers`` is its number of processes; None takes what a user gets.
        """
        port = free_port()
        given = self.environ(API_PORT=port, API_PROCESSES=workers or "", **environ)
        command = [sys.executable, "-m", "api"]
        process = ApiProcess(command, name="api", folder=self.folder, environ=given, root=self.root)
        self._processes.append(process)
        self._open.callback(process.stop)
        process.url = f"http://127.0.0.1:{port}"
        process.client = self._open.enter_context(httpx.Client(base_url=process.url, timeout=40))
        wait_until(lambda: _is_live(process), timeout, what="the API's /livez")
        return process

    def stop_workers(self, but: Collection[WorkerProcess] = ()) -> None:
        """End its workers, except these."""
        for process in self._processes:
            if isinstance(process, WorkerProcess) and process.alive and process not in but:
                process.stop()

    def kill(self) -> None:
        """SIGKILL to everything it started, for a test that does not care how it ends and need not wait."""
        for process in self._processes:
            process.kill()

    def close(self) -> None:
        """End everything it started."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def running_stack(redis_url: str, folder: Path, **environ: object) -> Iterator[Stack]:
    """A stack for one ``with`` block."""
    with Stack(redis_url, folder, root=ROOT, **environ) as stack:
        yield stack


def _is_live(process: ApiProcess) -> bool:
    process.check_alive()
    try:
        return process.client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def _texts(values: dict[str, object]) -> dict[str, str]:
    return {key.upper(): str(value) for key, value in values.items()}
