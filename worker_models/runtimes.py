"""What runs a forward pass. Each runtime takes uint8 ``(batch, height, width, 3)`` and returns probabilities.

:class:`OnnxRuntime` is the default on a CPU, :class:`worker_models.torch_runtime.TorchRuntime` where there is a CUDA
device. Which one a worker gets is decided by :func:`choose` without importing torch unless a CUDA device is likely.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from settings import Settings
from worker_models.cores import intra_op_threads
from worker_models.errors import InferenceFailed
from worker_models.export import INPUT, OUTPUT

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
RuntimeName = Literal["onnxruntime", "torch"]


class Runtime(Protocol):
    """A loaded network on a device."""

    name: str
    device: str

    def run(self, pixels: Pixels) -> Probabilities:
        """Probabilities ``(batch, classes)`` of ``pixels`` ``(batch, height, width, 3)``. One thread at a time.

        Raises:
            InferenceFailed: the runtime raised.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class GraphUnusable(Exception):
    """The file in the cache is no graph this onnxruntime can run: damaged, or made by something else."""


class OnnxRuntime:
    """An exported graph on the CPU.

    Raises:
        GraphUnusable: the graph cannot be loaded.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, graph: Path, settings: Settings) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads(settings)
        options.inter_op_num_threads = 1
        # A spinning pool burns a core between requests that the decoding threads and the API could use.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._errors = _onnx_errors()
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except self._errors as error:
            raise GraphUnusable(f"{graph}: {error}") from error

    def run(self, pixels: Pixels) -> Probabilities:
        """See :class:`Runtime`."""
        try:
            (probabilities,) = self._session.run([OUTPUT], {INPUT: pixels})
        except self._errors as error:
            raise InferenceFailed(f"onnxruntime: {error}") from error
        result: Probabilities = probabilities
        return result

    def close(self) -> None:
        """See :class:`Runtime`."""
        del self._session


def _onnx_errors() -> tuple[type[Exception], ...]:
    """Every class onnxruntime raises: siblings without a common root of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError)


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
