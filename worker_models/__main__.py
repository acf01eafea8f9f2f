"""``python -m worker_models prepare``: fetch, export and cache models. ``skeletons``: after a change of a network.

A model that is in the cache costs next to nothing, so ``prepare`` can run at every start. Nothing here imports torch;
exports run in child processes, one per core.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from common.settings import ModelName, Settings, SettingsError, get_settings
from worker_models.errors import ModelError
from worker_models.graphs import obtain_graph, write_skeleton
from worker_models.machine import usable_cores
from worker_models.model import load_model
from worker_models.precision import best, find_trials
from worker_models.registry import REGISTRY, describe
from worker_models.runtimes import choose
from worker_models.weights import WAYS_OUT, Weights, first_usable


@dataclass(frozen=True, slots=True)
class Preparation:
    """The result for one model: the source of its weights and the gain of PRECISION=fast, or why it was skipped."""

    name: str
    weights: str | None = None
    reason: str | None = None
    fast: str = ""

    def __str__(self) -> str:
        if self.weights is None:
            return f"{self.name}: skipped, {self.reason}"
        return f"{self.name}: ready, weights {self.weights}" + (f"\n  PRECISION=fast: {self.fast}" if self.fast else "")


def prepare(names: Sequence[str], settings: Settings) -> Iterator[Preparation]:
    """Prepare each model named, in parallel; yields each as soon as it is done.

    A model of your own is loaded to learn its name: its preparation is that of ``NAME=package.module:factory``.
    """
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for done in as_completed([pool.submit(_prepare, name, settings) for name in names]):
            yield done.result()


def _prepare(name: str, settings: Settings) -> Preparation:
    def fill_cache(weights: Weights) -> Preparation:
        fast = ""
        if choose(settings) == "onnxruntime":
            trials = find_trials(obtain_graph(weights, settings), weights.card.transform, settings)
            fast = str(best(trials) or (trials and f"exact is best: {trials[0]}") or "")
        else:
            weights.obtain()
        return Preparation(name, weights=weights.source, fast=fast)

    try:
        wanted = settings.model(name)
        if wanted.factory:
            return _load(wanted, settings)
        return first_usable(describe(wanted), settings, fill_cache)
    except (ModelError, SettingsError) as error:
        return Preparation(name, reason=str(error).removesuffix(WAYS_OUT))


def _load(wanted: ModelName, settings: Settings) -> Preparation:
    try:
        model = load_model(wanted.spelled, settings)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's code: what it raises is the reason
        return Preparation(wanted.spelled, reason=f"{wanted.factory} failed: {type(error).__name__}: {error}")
    model.close()
    return Preparation(f"{model.name}={wanted.factory}", weights=model.weights)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when at least one model is ready, 1 when none is, 2 when a setting is wrong."""
    options = _parser().parse_args(arguments)
    if options.command == "skeletons":
        sys.stdout.writelines(f"{write_skeleton(card)}\n" for card in REGISTRY.values())
        return 0
    settings = get_settings()
    found = []
    for preparation in prepare(options.names or settings.models, settings):
        found.append(preparation)
        if not options.json:
            sys.stdout.write(f"{preparation}\n")
            sys.stdout.flush()
    names = [preparation.name.partition("=")[0] for preparation in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        remedy = "name one of them, as in OTHER=package.module:factory"
        sys.stderr.write(f"MODELS: two models are called {twice[0]}: {remedy}\n")
        return 2
    ready = {one.name: one.weights for one in found if one.weights is not None}
    skipped = {one.name: one.reason for one in found if one.weights is None}
    if options.json:
        sys.stdout.write(json.dumps({"ready": ready, "skipped": skipped}) + "\n")
    elif skipped:
        sys.stderr.write(WAYS_OUT.removeprefix(". ") + "\n")
    return 0 if ready else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker_models")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    commands.add_parser("skeletons", help="make the graphs without weights of the built-in networks; needs torch")
    command = commands.add_parser("prepare", help="fetch weights, export graphs and fill MODEL_CACHE_DIR")
    command.add_argument("names", nargs="*", metavar="model", help="models to prepare; default: MODELS")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
