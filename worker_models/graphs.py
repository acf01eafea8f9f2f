"""The cache of exported graphs: one ONNX file and one JSON file beside it for each model and weights.

A graph is exported in a separate process, because exporting needs torch and torch never frees its memory. The JSON file
is written last, each file by renaming, so a graph that has one is complete. Deleting the directory is safe.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from common.settings import Settings
from worker_models.errors import UnknownModel, WeightsUnavailable
from worker_models.export import UNKNOWN_MODEL
from worker_models.weights import Weights

FORMAT = 1
"""Raise it when the exported graph changes, so that graphs of an older export are not used."""


def graph_key(weights: Weights) -> str:
    """What the graph depends on, as 16 hex digits; known without torch."""
    card = weights.card
    content = [FORMAT, card.builder, card.version, card.classes, asdict(card.transform), weights.identity]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def graph_path(weights: Weights, settings: Settings) -> Path:
    """Where the graph of these weights is, or will be."""
    return Path(settings.model_cache_dir).absolute() / f"{weights.card.name}-{graph_key(weights)}.onnx"


def _is_cached(graph: Path) -> bool:
    return graph.is_file() and graph.with_suffix(".json").is_file()


def obtain_graph(weights: Weights, settings: Settings) -> Path:
    """The graph of these weights, exported now if it is not cached; many processes may call this at once.

    Raises:
        WeightsUnavailable: the weights cannot be had or do not fit the network.
        UnknownModel: the network cannot be imported.
    """
    graph = graph_path(weights, settings)
    if _is_cached(graph):
        return graph
    path = weights.obtain()
    graph.parent.mkdir(parents=True, exist_ok=True)
    with graph.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when the file is closed or this process dies
        if not _is_cached(graph):
            _export(weights, path, graph)
    return graph


def drop_graph(weights: Weights, settings: Settings) -> None:
    """Forget the cached graph of these weights; the next :func:`obtain_graph` exports it again."""
    graph_path(weights, settings).with_suffix(".json").unlink(missing_ok=True)


def _export(weights: Weights, path: Path | None, graph: Path) -> None:
    order = {
        "card": asdict(weights.card),
        "weights": weights.source,
        "identity": weights.identity,
        "path": str(path) if path else None,
        "graph": str(graph),
    }
    command = [sys.executable, "-W", "ignore", "-m", "worker_models.export"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    done = subprocess.run(  # noqa: S603 - this interpreter and a module of this package
        command, input=json.dumps(order), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [f"exit status {done.returncode}", *done.stderr.strip().splitlines()]
        kind = UnknownModel if done.returncode == UNKNOWN_MODEL else WeightsUnavailable
        raise kind(f"{weights.card.name} could not be exported from {weights.source}: {said[-1]}")
