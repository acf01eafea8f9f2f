"""``python -m worker_models prepare``: fetch, export and cache models. ``skeletons``: after a change of a network."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from common.settings import get_settings
from worker_models.export import write_skeleton
from worker_models.prepare import prepare
from worker_models.registry import REGISTRY
from worker_models.weights import WAYS_OUT


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
