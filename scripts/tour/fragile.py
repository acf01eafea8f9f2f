"""A model with a fault built in, for the scene of the poison: a real one that ends its process when it sees the rocket.

What a bug in a runtime's native code does to a worker, on one picture only, so that it can be shown when wanted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from scripts.tour.pictures import ROCKET
from scripts.tour.stage import MODEL
from worker_models.model import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.settings import Settings
    from worker_models.model import Model
    from worker_models.runtimes import Pixels, Probabilities


class Fragile:
    """Answers as ``inner`` does, and dies of one picture; see :class:`worker_models.model.Model`."""

    name = "fragile"

    def __init__(self, inner: Model, fatal: Pixels) -> None:
        self.version, self.weights, self.runtime, self.device = (
            inner.version, inner.weights, inner.runtime, inner.device,
        )  # fmt: skip
        self.decode, self.predictions, self.warm_up, self.close = (
            inner.decode, inner.predictions, inner.warm_up, inner.close,
        )  # fmt: skip
        self._inner, self._fatal = inner, fatal

    def infer(self, batch: Sequence[Pixels]) -> Sequence[Probabilities]:
        """Kill this process, and with it every request of the batch, when the fatal picture is among them."""
        if any(np.array_equal(pixels, self._fatal) for pixels in batch):
            os.abort()
        return self._inner.infer(batch)


def fragile(settings: Settings) -> Fragile:
    """What ``--model scripts.tour.fragile:fragile`` loads."""
    inner = load_model(MODEL, settings)
    return Fragile(inner, inner.decode(ROCKET.read_bytes()))
