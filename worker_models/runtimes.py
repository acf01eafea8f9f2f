"""Runtimes of forward passes: onnxruntime or OpenVINO on a CPU, torch where there is a CUDA device.

:func:`choose` decides which, without importing torch unless a CUDA device is likely; ``PRECISION=fast`` takes OpenVINO
where :mod:`worker_models.precision` finds that it keeps the answers.
"""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.settings import Settings
from worker_models.errors import InferenceFailed
from worker_models.machine import intra_op_threads

INPUT, OUTPUT = "pixels", "probabilities"
"""Names in an exported graph."""
Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
Forward = Callable[[Pixels], Probabilities]
EXACT = "float32"
"""The default precision of every runtime."""


class GraphUnusable(Exception):
    """The cached file is no graph that this onnxruntime can run."""


class Runtime(ABC):
    """A loaded network on a device.

    Attributes:
        name: what users call it.
        device: where it runs.
        precision: the type of its numbers.
        fast: the gain of ``PRECISION=fast``; empty if unknown.
        max_batch: the most images of one pass, if larger passes are no cheaper per image; else None.
        passes: how many passes to run side by side.
    """

    name: str
    device: str
    precision: str = EXACT
    fast: str = ""
    max_batch: int | None = None
    passes: int = 1

    @abstractmethod
    def run(self, pixels: Pixels) -> Probabilities:
        """Probabilities ``(images, classes)`` of uint8 ``(images, height, width, 3)``. Called from ``passes`` threads.

        Raises:
            InferenceFailed: the runtime raised.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the memory."""


def choose(settings: Settings) -> str:
    """The runtime to use: that of the setting, or torch where CUDA works and onnxruntime elsewhere."""
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


class CpuRuntime(Runtime):
    """A graph on the CPU: small passes side by side, one thread each; a single image on an idle worker has all threads.

    Independent threads answer more images, and small passes stay in the CPU's caches and take less memory. Measured on
    two cores against one large pass: a tenth to a fifth less work per image, and for EfficientNet-B0 250 MB instead of
    370. Longer passes are no cheaper, and make the images that arrive during one wait longer.

    Attributes:
        narrow: a pass in one thread; as many at a time as there are ``passes``.
        wide: a pass in all threads; one at a time.
    """

    device = "cpu"
    max_batch = 2
    _errors: tuple[type[Exception], ...] = (RuntimeError, ValueError)
    narrow: Forward
    wide: Forward

    def __init__(self, settings: Settings) -> None:
        self.passes = self._threads = intra_op_threads(settings)
        self._running = 0
        self._count = threading.Lock()

    def run(self, pixels: Pixels) -> Probabilities:
        """See :class:`Runtime`."""
        with self._count:
            alone = self._running == 0
            self._running += 1
        try:
            return self.wide(pixels) if alone and len(pixels) < self._threads else self.narrow(pixels)
        except self._errors as error:
            raise InferenceFailed(f"{self.name}: {error}") from error
        finally:
            with self._count:
                self._running -= 1

    def close(self) -> None:
        """See :class:`Runtime`."""
        del self.narrow, self.wide


class OnnxRuntime(CpuRuntime):
    """An exported graph in onnxruntime, in float32: the default on a CPU; see :class:`Runtime`.

    Raises:
        GraphUnusable: the graph cannot be loaded.
    """

    name = "onnxruntime"

    def __init__(self, graph: Path, settings: Settings) -> None:
        super().__init__(settings)
        self._errors = _errors()
        try:
            self.narrow = partial(_forward, _session(graph, 1))
            self.wide = partial(_forward, _session(graph, self._threads)) if self._threads > 1 else self.narrow
        except self._errors as error:
            raise GraphUnusable(f"{graph}: {error}") from error


def _session(graph: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool burns a core between requests that the decoding threads and the API could use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _forward(session: Any, pixels: Pixels) -> Probabilities:
    (probabilities,) = session.run([OUTPUT], {INPUT: pixels})
    result: Probabilities = probabilities
    return result


def _errors() -> tuple[type[Exception], ...]:
    """Every class that onnxruntime raises; they have no common root."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError)
