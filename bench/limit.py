"""The in-process limit: the same model, decoding and batcher as a worker, without HTTP and without a queue."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from settings import Settings
from worker_models.batcher import Batcher
from worker_models.model import load_model


@dataclass(frozen=True)
class Run:
    """One measurement: what was answered, in how long, at what cost, with which latencies (all in seconds)."""

    name: str
    answered: int
    seconds: float
    cpu_seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Photos a second."""
        return self.answered / self.seconds


class Limit:
    """A loaded model, kept warm between rounds."""

    def __init__(self, model: str, settings: Settings) -> None:
        self._model = load_model(model, settings)
        self._model.warm_up()
        self._batcher = Batcher(self._model.infer, settings.max_batch, 4 * settings.max_batch)

    def run(self, photo: bytes, number: int, concurrency: int) -> Run:
        """Classify one photo ``number`` times from ``concurrency`` threads."""

        def once(_: int) -> float:
            began = time.perf_counter()
            result = self._batcher.run(self._model.decode(photo))
            self._model.predictions(result.value, 5)
            return time.perf_counter() - began

        process = psutil.Process()
        with ThreadPoolExecutor(concurrency) as threads:
            list(threads.map(once, range(concurrency)))
            before, began = process.cpu_times(), time.perf_counter()
            latencies = list(threads.map(once, range(number)))
            seconds, after = time.perf_counter() - began, process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        return Run(f"limit c={concurrency}", number, seconds, cpu, latencies)

    def close(self) -> None:
        """Give the model back."""
        self._batcher.close()
        self._model.close()
