"""The in-process limit: the same model, decoding and batcher as a worker, without HTTP and without a queue."""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import Any

from bench.runs import MeasuredRun, closed_loop
from common.settings import Settings
from worker_models.batcher import Batcher, Slot
from worker_models.model import batcher_shape, load_model


class Limit:
    """A loaded model, kept warm between rounds."""

    def __init__(self, model: str, settings: Settings) -> None:
        self._model = load_model(model, settings)
        self._model.warm_up()
        self._batcher = Batcher(self._model.infer, *batcher_shape(self._model, settings))
        self.name, self.weights = self._model.name, self._model.weights

    def run(self, photo: bytes, concurrency: int, seconds: float) -> MeasuredRun:
        """Classify one photo again and again from ``concurrency`` threads."""

        def once() -> int:
            self.classify(photo)
            return 1

        return closed_loop(once, concurrency, seconds, lambda: {"limit": time.process_time()}, warm=0.3)

    def classify(self, photo: bytes) -> str:
        """The likeliest class."""
        answers: SimpleQueue[Slot[Any, Any]] = SimpleQueue()
        self._batcher.submit(self._model.decode(photo), answers.put)
        slot = answers.get()
        slot.check()
        return str(self._model.predictions(slot.value, 5)[0]["class"])

    def close(self) -> None:
        """Give the model back."""
        self._batcher.close()
        self._model.close()
