"""Make every model ready before any worker starts: fetch its weights, export its graph, fill the cache.

Models that are in the cache already cost next to nothing, so running this at every start is fine. Nothing here imports
torch; exports run in child processes, as many at a time as there are cores.
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
from worker_models.registry import ModelCard, describe
from worker_models.runtimes import choose
from worker_models.weights import WAYS_OUT, Weights, first_usable


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one model: the source of its weights, or the reason it was skipped."""

    name: str
    weights: str | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.weights is not None:
            return f"{self.name}: ready, weights {self.weights}"
        return f"{self.name}: skipped, {self.reason}"


def prepare(names: Sequence[str], settings: Settings) -> Iterator[Outcome]:
    """Prepare each model named; yields an outcome as soon as it is known.

    A model of your own is loaded, which says its name: its outcome is about ``NAME=package.module:factory``.
    """
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for done in as_completed([pool.submit(_outcome, name, settings) for name in names]):
            yield done.result()


def _outcome(name: str, settings: Settings) -> Outcome:
    try:
        wanted = settings.model(name)
        if wanted.factory:
            return _load(wanted, settings)
        return Outcome(wanted, weights=_prepare(describe(wanted), settings).source)
    except (ModelError, SettingsError) as error:
        return Outcome(name, reason=str(error).removesuffix(WAYS_OUT))


def _load(wanted: ModelName, settings: Settings) -> Outcome:
    try:
        model = load_model(wanted.spelled, settings)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - somebody's own code: what it raises is the reason
        return Outcome(wanted.spelled, reason=f"{wanted.factory} failed: {type(error).__name__}: {error}")
    found = Outcome(f"{model.name}={wanted.factory}", weights=model.weights)
    model.close()
    return found


def _prepare(card: ModelCard, settings: Settings) -> Weights:
    graph_wanted = choose(settings) == "onnxruntime"

    def use(weights: Weights) -> Weights:
        if graph_wanted:
            obtain_graph(weights, settings)
        else:
            weights.obtain()
        return weights

    return first_usable(card, settings, use)
