"""A running Inferlane: the Procfile's processes, on a separate Redis and ports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

from bench.caller import Caller
from bench.trees import cpu_seconds, memory
from common.settings import Settings
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack, WorkerProcess


class Inferlane:
    """Broker, API and workers; use it in a ``with`` block.

    Args:
        folder: for logs and data.
        api_processes: API_PROCESSES; None leaves the default.
        environ: settings of all processes.
    """

    def __init__(self, folder: Path, *, api_processes: int | None = None, **environ: Any) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="inferlane-", dir=folder))
        self._api_processes = api_processes
        self._environ = environ
        self._pids: dict[str, list[int]] = {}
        self._caller: Caller | None = None

    def __enter__(self) -> Self:
        self.redis = RedisServer(self._folder / "redis")
        self.stack = Stack(self.redis.url, self._folder / "run", **self._environ)
        self._pids = {"redis": [self.redis.process.pid]}
        return self

    def __exit__(self, *_: object) -> None:
        if self._caller is not None:
            self._caller.close()
        self.stack.close()
        self.redis.stop()

    def settings(self) -> Settings:
        """What its processes see."""
        return self.stack.settings()

    def add_worker(self, model: str, **environ: Any) -> WorkerProcess:
        """Start one more worker and wait for its lease."""
        worker = self.stack.start_worker(model, **environ)
        self.adopt_worker(worker)
        return worker

    def describe(self, worker: WorkerProcess) -> dict[str, Any]:
        """The worker's row in the register: ``model``, ``weights`` and so on."""
        return self.stack.wait_for_worker(worker)

    def adopt_worker(self, worker: WorkerProcess) -> None:
        """Count a worker that was started on :attr:`stack` as one of these."""
        self._pids.setdefault("worker", []).append(worker.pid)

    def add_api(self, **environ: Any) -> ApiProcess:
        """Start the API and wait until it answers; :attr:`caller` speaks to it."""
        api = self.stack.start_api(workers=self._api_processes, **environ)
        self._pids["api"] = [api.pid]
        if self._caller is not None:
            self._caller.close()
        self._caller = Caller(api.url)
        return api

    @property
    def caller(self) -> Caller:
        """Speaks to the API that :meth:`add_api` started last.

        Raises:
            RuntimeError: there is none yet.
        """
        if self._caller is None:
            raise RuntimeError("no API was started")
        return self._caller

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far of ``redis``, ``api`` and ``worker``."""
        return {name: cpu_seconds(pids) for name, pids in self._pids.items()}

    def memory(self) -> dict[str, list[dict[str, Any]]]:
        """RSS and PSS of each process, by part."""
        return {name: [row for pid in pids for row in memory(pid)] for name, pids in self._pids.items()}
