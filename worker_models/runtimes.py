"""What runs a forward pass. Each runtime takes uint8 ``(batch, height, width, 3)`` and returns probabilities.

:class:`worker_models.onnx_runtime.OnnxRuntime` is the default on a CPU, and where there is a CUDA device
:class:`worker_models.torch_runtime.TorchRuntime`. Which one a worker gets is decided by :func:`choose`, without
importing torch unless a CUDA device is likely.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from common.settings import Settings

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
RuntimeName = Literal["onnxruntime", "torch"]


class Runtime(Protocol):
    """A loaded network on a device.

    Attributes:
        name: what users call it.
        device: where it runs.
        useful_batch: the images of one pass beyond which more cost no less each; None when there is no such number.
        passes: how many passes may run side by side, and how many make the best of the device.
    """

    name: str
    device: str
    useful_batch: int | None
    passes: int

    def run(self, pixels: Pixels) -> Probabilities:
        """Probabilities ``(batch, classes)`` of ``pixels`` ``(batch, height, width, 3)``. From ``passes`` threads.

        Raises:
            InferenceFailed: the runtime raised.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


def choose(settings: Settings) -> RuntimeName:
    """The runtime to use: the one that is set, or torch where CUDA works and onnxruntime everywhere else."""
    if settings.runtime == "torch":
        return "torch"
    if settings.runtime == "auto" and _cuda_likely() and _cuda_works():
        return "torch"
    return "onnxruntime"


def _cuda_likely() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}
    return not hidden and any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg"))


def _cuda_works() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
