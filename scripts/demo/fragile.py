"""A real model with a fault: it aborts its process when it sees the rocket, as a bug in a runtime's native code would.

The scene ``poison`` loads it; see :class:`worker_models.model.Model` for the interface.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.settings import Settings
from scripts.demo.stage import MODEL, ROCKET
from worker_models.model import Model, load_model
from worker_models.runtimes import Pixels, Probabilities


class Fragile:
    """Answers as ``inner`` does, and aborts on the fatal picture."""

    name = "fragile"
    max_batch, passes = 16, 1  # large passes, so that the picture has companions

    def __init__(self, inner: Model, fatal: Pixels) -> None:
        self._inner, self._fatal = inner, fatal

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)

    def infer(self, batch: Sequence[Pixels]) -> Sequence[Probabilities]:
        """Abort this process, and every request of the pass with it, when the fatal picture is among them."""
        if any(np.array_equal(pixels, self._fatal) for pixels in batch):
            os.abort()
        return self._inner.infer(batch)


def fragile(settings: Settings) -> Fragile:
    """What ``--model scripts.demo.fragile:fragile`` loads."""
    inner = load_model(MODEL, settings)
    return Fragile(inner, inner.decode(ROCKET.read_bytes()))
