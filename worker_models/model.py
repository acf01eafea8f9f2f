"""A model as a worker sees it: bytes in, probabilities out, and the origin of its weights.

:func:`load_model` takes a name from the registry, or ``package.module:factory`` for a model of your own. It imports
torch only if torch runs the network or no exported graph is in the cache.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from common.settings import ModelName, Settings
from worker_models.builders import import_object
from worker_models.errors import InferenceFailed, NoSuchModel, WeightsUnavailable
from worker_models.graphs import graph_key, graph_path, obtain_graph
from worker_models.limits import Limits
from worker_models.precision import best, fast_runtime, kept_trials
from worker_models.preprocess import decode
from worker_models.registry import ModelCard, describe, imagenet_labels
from worker_models.runtimes import EXACT, GraphUnusable, OnnxRuntime, Pixels, Probabilities, Runtime, choose
from worker_models.weights import Weights, first_usable


class Model(Protocol):
    """The interface of a model; a factory may return any object that has it.

    Attributes:
        name: what users call it.
        version: changes when its answers may change.
        weights: their origin; ``random`` when they are random.

    Others are optional: ``max_batch``, the most images of one forward pass (default: the setting MAX_BATCH),
    ``passes``, how many forward passes may run side by side (default: one), and ``precision``, in what numbers.
    """

    name: str
    version: str
    weights: str
    runtime: str
    device: str

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The network's input for one encoded image. Called from many threads at once.

        Raises:
            InvalidInput: the image can never be answered.
        """
        ...

    def infer(self, items: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.float32]]:
        """One forward pass: probabilities ``(classes,)`` for each item, in order. Called from ``passes`` threads.

        Raises:
            InferenceFailed: the runtime failed.
        """
        ...

    def predictions(self, output: NDArray[np.float32], top_k: int) -> list[dict[str, Any]]:
        """The ``top_k`` likeliest classes of one output, likeliest first, as ``class``, ``index``, ``confidence``."""
        ...

    def warm_up(self) -> None:
        """Do one-time work before the first request."""
        ...

    def close(self) -> None:
        """Free the memory; the last call."""
        ...


class Classifier:
    """A card's network with its weights, on a runtime."""

    def __init__(self, weights: Weights, runtime: Runtime, settings: Settings) -> None:
        self._card = weights.card
        self._runtime = runtime
        self._limits = Limits.of_worker(settings)
        self._labels = self._card.labels or imagenet_labels()
        self.max_batch = min(settings.max_batch, runtime.max_batch or settings.max_batch)
        self.passes = runtime.passes
        self.name = self._card.name
        self.precision = runtime.precision
        self.fast = runtime.fast
        suffix = "" if self.precision == EXACT else f"-{self.precision}"
        self.version = f"{self._card.version}+{graph_key(weights)[:8]}{suffix}"
        self.weights = weights.source
        self.runtime = runtime.name
        self.device = runtime.device

    def decode(self, data: bytes) -> Pixels:
        """uint8 ``(crop, crop, 3)``; see :class:`Model`."""
        return decode(data, self._card.transform, self._limits)

    def infer(self, items: Sequence[Pixels]) -> list[Probabilities]:
        """float32 ``(classes,)`` for each; see :class:`Model`."""
        pixels = items[0][np.newaxis] if len(items) == 1 else np.stack(items)
        probabilities = self._runtime.run(pixels)
        if not np.isfinite(probabilities).all():
            raise InferenceFailed(f"{self.name} returned numbers that are not finite")
        return list(probabilities)

    def predictions(self, output: Probabilities, top_k: int) -> list[dict[str, Any]]:
        """See :class:`Model`."""
        size = min(top_k, len(output))
        best = np.sort(np.argpartition(output, -size)[-size:])
        best = best[np.argsort(-output[best], kind="stable")]
        return [
            {"class": self._labels[index], "index": int(index), "confidence": round(float(output[index]), 6)}
            for index in best
        ]

    def warm_up(self) -> None:
        """Run the smallest and the largest pass: each size has its own memory plan."""
        height, width = self._card.input_size
        blank = np.zeros((height, width, 3), dtype=np.uint8)
        for size in (1, self.max_batch):
            self.infer([blank] * size)

    def close(self) -> None:
        """See :class:`Model`."""
        self._runtime.close()


class BatcherShape(NamedTuple):
    """The arguments of a model's batcher, in its order; see :class:`worker_models.batcher.Batcher`."""

    max_batch: int
    passes: int
    gather: float = 0.0


def batcher_shape(model: Model, settings: Settings) -> BatcherShape:
    """How to batch for ``model``, by its own ``max_batch`` and ``passes`` where it has them."""
    size = int(getattr(model, "max_batch", settings.max_batch))
    return BatcherShape(size, int(getattr(model, "passes", 1)), settings.batch_timeout)


def load_model(name: str, settings: Settings) -> Model:
    """The model called ``name``: from the registry, or from its factory.

    Raises:
        NoSuchModel: no such name, the factory cannot be imported, or the model's own name is invalid.
        WeightsUnavailable: no source of weights could be used; the message names the ways out.
    """
    wanted = settings.model(name)
    if not wanted.factory:
        return load_card(describe(wanted), settings)
    model = cast("Model", import_object(wanted.factory)(settings))
    if wanted != wanted.factory:
        return model if model.name == wanted else cast("Model", Renamed(model, wanted))
    try:
        ModelName(f"{model.name}={wanted.factory}")
    except ValueError as error:
        raise NoSuchModel(f"the model of {wanted.factory}: {error}") from error
    return model


class Renamed:
    """A model under the name that ``MODELS`` or ``--model`` gives it."""

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self.name = str(name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._model, attribute)


def load_card(card: ModelCard, settings: Settings) -> Classifier:
    """The model that a card describes, with the first usable weights.

    Raises:
        NoSuchModel: the card's builder cannot be imported.
        WeightsUnavailable: no source of weights could be used; the message names the ways out.
    """
    load = _load_graph if choose(settings) == "onnxruntime" else _load_torch
    return first_usable(card, settings, lambda weights: Classifier(weights, load(weights, settings), settings))


def _load_graph(weights: Weights, settings: Settings) -> Runtime:
    """The runtime of the cached graph; one that cannot be loaded is exported again, once."""
    try:
        return _run_graph(weights, settings)
    except GraphUnusable:
        graph_path(weights, settings).unlink(missing_ok=True)
    try:
        return _run_graph(weights, settings)
    except GraphUnusable as error:
        raise WeightsUnavailable(f"a graph exported just now cannot be loaded: {error}") from error


def _run_graph(weights: Weights, settings: Settings) -> Runtime:
    graph = obtain_graph(weights, settings)
    fast = fast_runtime(graph, weights.card.transform, settings) if settings.precision == "fast" else None
    runtime = fast or OnnxRuntime(graph, settings)
    runtime.fast = str(best(kept_trials(graph) or ()) or "")
    return runtime


def _load_torch(weights: Weights, settings: Settings) -> Runtime:
    try:
        from worker_models.torch_runtime import TorchRuntime, build
    except ImportError as error:
        raise WeightsUnavailable(f"RUNTIME=torch needs {error.name}, which is not installed") from error
    return TorchRuntime(build(weights.card, weights.obtain()), settings)
