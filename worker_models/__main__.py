"""``python -m worker_models prepare``: fetch, export and cache models; see :mod:`worker_models.prepare`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence

from common.settings import get_settings
from worker_models.prepare import Outcome, prepare
from worker_models.weights import WAYS_OUT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when at least one model is ready, 1 when none is, 2 when a setting is wrong."""
    options = _parser().parse_args(arguments)
    settings = get_settings()
    outcomes = _shown(prepare(options.names or settings.models, settings), quiet=options.json)
    names = [outcome.name.partition("=")[0] for outcome in outcomes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        remedy = "name one of them, as in OTHER=package.module:factory"
        sys.stderr.write(f"MODELS: two models are called {twice[0]}: {remedy}\n")
        return 2
    ready = {outcome.name: outcome.weights for outcome in outcomes if outcome.weights is not None}
    skipped = {outcome.name: outcome.reason for outcome in outcomes if outcome.weights is None}
    if options.json:
        sys.stdout.write(json.dumps({"ready": ready, "skipped": skipped}) + "\n")
    elif skipped:
        sys.stderr.write(WAYS_OUT.removeprefix(". ") + "\n")
    return 0 if ready else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker_models")
    command = parser.add_subparsers(required=True, metavar="command").add_parser(
        "prepare", help="fetch weights, export graphs and fill MODEL_CACHE_DIR"
    )
    command.add_argument("names", nargs="*", metavar="model", help="models to prepare; default: MODELS")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return parser


def _shown(outcomes: Iterable[Outcome], *, quiet: bool) -> list[Outcome]:
    seen = []
    for outcome in outcomes:
        seen.append(outcome)
        if not quiet:
            sys.stdout.write(f"{outcome}\n")
            sys.stdout.flush()
    return seen


if __name__ == "__main__":
    sys.exit(main())
