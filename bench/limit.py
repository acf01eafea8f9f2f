"""The in-process limit: the same model, decoding and batcher as a worker, without HTTP and without a queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from bench.runs import MeasuredRun, closed_loop
from common.settings import Settings
from worker_models.batcher import Batcher, BatchItem
from worker_models.model import batcher_shape, load_model


@dataclass(slots=True, eq=False)
class DecodedPhoto(BatchItem):
    """A photo for the batcher."""

    pixels: Any


class Limit:
    """A loaded model, kept warm between rounds."""

    def __init__(self, model: str, settings: Settings) -> None:
        self._model = load_model(model, settings)
        self._model.warm_up()
        self._batcher = Batcher(self._infer, *batcher_shape(self._model, settings))
        self.name, self.weights = self._model.name, self._model.weights

    def run(self, photo: bytes, concurrency: int, seconds: float) -> MeasuredRun:
        """Classify one photo again and again from ``concurrency`` threads."""

        def once() -> int:
            self.classify(photo)
            return 1

        return closed_loop(once, concurrency, seconds, lambda: {"limit": time.process_time()}, warm=0.3)

    def classify(self, photo: bytes) -> str:
        """The likeliest class."""
        answers: SimpleQueue[DecodedPhoto] = SimpleQueue()
        self._batcher.submit(DecodedPhoto(self._model.decode(photo)), answers.put)
        answer = answers.get()
        answer.check()
        return str(self._model.predictions(answer.value, 5)[0]["class"])

    def _infer(self, photos: Sequence[DecodedPhoto]) -> Sequence[Any]:
        return self._model.infer([photo.pixels for photo in photos])

    def close(self) -> None:
        """Give the model back."""
        self._batcher.close()
        self._model.close()
