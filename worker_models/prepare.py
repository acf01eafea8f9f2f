"""Make every model ready before any worker starts: fetch its weights, export its graph, fill the cache.

A model that is in the cache costs next to nothing, so this can run at every start. Nothing here imports torch; exports
run in child processes, as many at a time as there are cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from common.settings import ModelName, Settings, SettingsError
from worker_models.errors import ModelError
from worker_models.graphs import obtain_graph
from worker_models.machine import usable_cores
from worker_models.model import load_model
from worker_models.registry import describe
from worker_models.runtimes import choose
from worker_models.weights import WAYS_OUT, Weights, first_usable


@dataclass(frozen=True, slots=True)
class Preparation:
    """What became of one model: the source of its weights, or the reason it was skipped."""

    name: str
    weights: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.weights is not None:
            return f"{self.name}: ready, weights {self.weights}"
        return f"{self.name}: skipped, {self.reason}"


def prepare(names: Sequence[str], settings: Settings) -> Iterator[Preparation]:
    """Prepare each model named, in parallel; yields each as soon as it is done.

    A model of your own is loaded to learn its name: its preparation is that of ``NAME=package.module:factory``.
    """
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for done in as_completed([pool.submit(_prepare, name, settings) for name in names]):
            yield done.result()


def _prepare(name: str, settings: Settings) -> Preparation:
    graph_wanted = choose(settings) == "onnxruntime"

    def fill_cache(weights: Weights) -> str:
        if graph_wanted:
            obtain_graph(weights, settings)
        else:
            weights.obtain()
        return weights.source

    try:
        wanted = settings.model(name)
        if wanted.factory:
            return _load(wanted, settings)
        return Preparation(wanted, weights=first_usable(describe(wanted), settings, fill_cache))
    except (ModelError, SettingsError) as error:
        return Preparation(name, reason=str(error).removesuffix(WAYS_OUT))


def _load(wanted: ModelName, settings: Settings) -> Preparation:
    try:
        model = load_model(wanted.spelled, settings)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's code: what it raises is the reason
        return Preparation(wanted.spelled, reason=f"{wanted.factory} failed: {type(error).__name__}: {error}")
    found = Preparation(f"{model.name}={wanted.factory}", weights=model.weights)
    model.close()
    return found
