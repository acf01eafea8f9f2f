"""The default runtime on a CPU: an exported graph in onnxruntime.

A single image that comes alone is spread over all threads, for the least delay. Else small passes run side by side, one
thread each: threads that never wait for one another answer more images, and small passes keep the intermediate results
in the caches and the memory low. Measured on two cores against one pass over a whole batch: a tenth to a fifth less
work for each image, and for EfficientNet-B0 250 MB instead of 370. Longer passes are no better, and whoever comes
during one waits longer.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from common.settings import Settings
from worker_models.errors import InferenceFailed
from worker_models.export import INPUT, OUTPUT
from worker_models.machine import intra_op_threads
from worker_models.runtimes import Pixels, Probabilities

USEFUL_BATCH = 2
"""The images of one pass beyond which more cost no less each."""


class GraphUnusable(Exception):
    """The file in the cache is no graph this onnxruntime can run: damaged, or made by something else."""


class OnnxRuntime:
    """An exported graph on the CPU; see :class:`worker_models.runtimes.Runtime`.

    Raises:
        GraphUnusable: the graph cannot be loaded.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, graph: Path, settings: Settings) -> None:
        self.passes = self._threads = intra_op_threads(settings)
        self.useful_batch: int | None = USEFUL_BATCH
        self._running = 0
        self._count = threading.Lock()
        self._errors = _errors()
        try:
            self._narrow = _session(graph, 1)
            self._wide = _session(graph, self._threads) if self._threads > 1 else self._narrow
        except self._errors as error:
            raise GraphUnusable(f"{graph}: {error}") from error

    def run(self, pixels: Pixels) -> Probabilities:
        """Probabilities ``(batch, classes)`` of ``pixels`` ``(batch, height, width, 3)``.

        Raises:
            InferenceFailed: onnxruntime raised.
        """
        with self._count:
            alone = self._running == 0
            self._running += 1
        try:
            return _forward(self._wide if alone and len(pixels) < self._threads else self._narrow, pixels)
        except self._errors as error:
            raise InferenceFailed(f"onnxruntime: {error}") from error
        finally:
            with self._count:
                self._running -= 1

    def close(self) -> None:
        """Give the memory back."""
        del self._narrow, self._wide


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
    """Every class onnxruntime raises: siblings without a common root of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError)
