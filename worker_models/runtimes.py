"""What runs a forward pass: onnxruntime on a CPU, torch where there is a CUDA device.

:func:`choose` decides which, without importing torch unless a CUDA device is likely.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.settings import Settings

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class Runtime(Protocol):
    """A loaded network on a device.

    Attributes:
        name: what users call it.
        device: where it runs.
        max_batch: the most images of one pass, if larger passes are no cheaper per image; else None.
        passes: how many passes to run side by side.
    """

    name: str
    device: str
    max_batch: int | None
    passes: int

    def run(self, pixels: Pixels) -> Probabilities:
        """Probabilities ``(images, classes)`` of uint8 ``(images, height, width, 3)``. Called from ``passes`` threads.

        Raises:
            InferenceFailed: the runtime raised.
        """
        ...

    def close(self) -> None:
        """Free the memory."""
        ...


def choose(settings: Settings) -> str:
    """The runtime to use: the one that is set, or torch where CUDA works and onnxruntime everywhere else."""
    if settings.runtime != "auto":
        return settings.runtime
    return "torch" if _cuda_likely() and _cuda_works() else "onnxruntime"


def _cuda_likely() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}
    return not hidden and any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg"))


def _cuda_works() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
