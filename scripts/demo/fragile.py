"""A real model with a fault: it aborts its process when it sees the rocket, as a bug in a runtime's native code would.

The scene ``poison`` loads it; see :class:`worker_models.model.Model` for the interface.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from scripts.demo.photos import ROCKET
from scripts.demo.stage import MODEL
from worker_models.model import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.settings import Settings
    from worker_models.model import Model
    from worker_models.runtimes import Pixels, Probabilities


class Fragile:
    """Answers as ``inner`` does, and aborts on the fatal picture."""

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
        """Abort this process, and every request of the pass with it, when the fatal picture is among them."""
        if any(np.array_equal(pixels, self._fatal) for pixels in batch):
            os.abort()
        return self._inner.infer(batch)


def fragile(settings: Settings) -> Fragile:
    """What ``--model scripts.demo.fragile:fragile`` loads."""
    inner = load_model(MODEL, settings)
    return Fragile(inner, inner.decode(ROCKET.read_bytes()))
