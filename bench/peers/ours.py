"""Inferlane as one of the systems that are compared, and what every such system can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from bench.caller import Caller, raw
from bench.inferlane import Inferlane
from common.settings import Settings
from worker_models.runtimes import EXACT


class Running(Protocol):
    """A started system."""

    @property
    def caller(self) -> Caller:
        """Speaks to it."""

    def request(self, photo: bytes) -> tuple[str, bytes, dict[str, str]]:
        """Path, body and headers of one photo."""

    def wait_until_ready(self, photo: bytes) -> None:
        """Until it answers."""

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by part."""

    def memory(self) -> dict[str, list[dict[str, Any]]]:
        """RSS and PSS of each process, by part."""


class OurSystem(Inferlane):
    """So many workers of the model, which share the cores, and as many API processes as shipped."""

    def __init__(
        self, model: str, settings: Settings, folder: Path, api_processes: int | None, workers: int = 1,
        precision: str = "exact",
    ) -> None:  # fmt: skip
        super().__init__(
            folder, api_processes=api_processes, ALLOW_RANDOM_WEIGHTS=1, MODELS=model,
            WEIGHTS_DIR=settings.weights_dir, WEIGHTS_TIMEOUT=1, WORKERS_ON_HOST=workers,
            PRECISION=precision,
        )  # fmt: skip
        self._model = model
        self._workers = workers
        self._precision = precision

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            workers = [self.add_worker(self._model) for _ in range(self._workers)]
            row = self.describe(workers[0])
            self._model = row["model"]
            if self._precision == "fast":
                _check_fast(row, workers[0].log())
            self.add_api()
        except BaseException:
            self.__exit__()
            raise
        return self

    def request(self, photo: bytes) -> tuple[str, bytes, dict[str, str]]:
        """As :class:`bench.peers.system.RunningPeer`."""
        body, kind = raw(photo)
        return f"/inference?model_type={self._model}", body, {"Content-Type": kind}

    def wait_until_ready(self, photo: bytes) -> None:
        """It is ready when it has been started."""


def _check_fast(row: Mapping[str, Any], log: str) -> None:
    if row["precision"] in (None, EXACT):
        raise RuntimeError(f"PRECISION=fast answers exactly here: {log}")
