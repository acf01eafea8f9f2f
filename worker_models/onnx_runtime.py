"""The default runtime on a CPU: an exported graph in onnxruntime.

A single image on an idle worker is spread over all threads, for the least delay. Otherwise small passes run side by
side, one thread each: independent threads answer more images, and small passes stay in the CPU's caches and take less
memory. Measured on two cores against one large pass: a tenth to a fifth less work per image, and for EfficientNet-B0
250 MB instead of 370. Longer passes are no cheaper, and make the images that arrive during one wait longer.
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

MAX_BATCH = 2
"""Larger passes are no cheaper per image."""


class GraphUnusable(Exception):
    """The cached file is no graph that this onnxruntime can run."""


class OnnxRuntime:
    """An exported graph on the CPU; see :class:`worker_models.runtimes.Runtime`.

    Raises:
        GraphUnusable: the graph cannot be loaded.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, graph: Path, settings: Settings) -> None:
        self.passes = self._threads = intra_op_threads(settings)
        self.max_batch: int | None = MAX_BATCH
        self._running = 0
        self._count = threading.Lock()
        self._errors = _errors()
        try:
            self._narrow = _session(graph, 1)
            self._wide = _session(graph, self._threads) if self._threads > 1 else self._narrow
        except self._errors as error:
            raise GraphUnusable(f"{graph}: {error}") from error

    def run(self, pixels: Pixels) -> Probabilities:
        """See :class:`worker_models.runtimes.Runtime`."""
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
        """See :class:`worker_models.runtimes.Runtime`."""
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
    """Every class that onnxruntime raises; they have no common root."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError)
