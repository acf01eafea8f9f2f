"""The cache of exported graphs: one ONNX file for each model and weights. Deleting the directory is safe.

A graph takes the decoder's uint8 pixels and returns probabilities; layout change, scaling, mean and
standard deviation and softmax are inside it, so a worker does no other arithmetic. It is exported in a separate process
(``python -m worker_models.graphs``), because that may need torch, and torch never frees its memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.settings import Settings
from worker_models import skeletons
from worker_models.errors import ModelError, NoSuchModel, WeightsUnavailable
from worker_models.registry import ModelCard, Transform
from worker_models.runtimes import INPUT, OUTPUT
from worker_models.state_dict import UnreadableStateDict, read_state_dict
from worker_models.weights import Weights

if TYPE_CHECKING:
    from worker_models.torch_runtime import Folded

FORMAT = 1
"""Raise it when the exported graph changes, so that graphs of an older export are not used."""
OPSET = 18
UNKNOWN_MODEL = 3
"""The exit status of an export whose network cannot be imported; 1 means any other failure."""


def graph_key(weights: Weights) -> str:
    """A hash of all that the graph depends on, 16 hex digits; known without torch."""
    card = weights.card
    content = [FORMAT, card.builder, card.version, card.classes, asdict(card.transform), weights.identity]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def graph_path(weights: Weights, settings: Settings) -> Path:
    """Where the graph of these weights is, or will be."""
    return Path(settings.model_cache_dir).absolute() / f"{weights.card.name}-{graph_key(weights)}.onnx"


def obtain_graph(weights: Weights, settings: Settings) -> Path:
    """The graph of these weights, exported now if it is not cached; many processes may call this at once.

    Raises:
        WeightsUnavailable: the weights cannot be obtained or do not fit the network.
        NoSuchModel: the network cannot be imported.
    """
    graph = graph_path(weights, settings)
    if graph.is_file():
        return graph
    path = weights.obtain()
    graph.parent.mkdir(parents=True, exist_ok=True)
    with graph.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when the file is closed or this process dies
        if not graph.is_file():
            _export(weights, path, graph)
    return graph


def _export(weights: Weights, path: Path | None, graph: Path) -> None:
    order = {"card": asdict(weights.card), "path": path and str(path), "graph": str(graph)}
    command = [sys.executable, "-W", "ignore", "-m", "worker_models.graphs"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    done = subprocess.run(  # noqa: S603 - this interpreter and a module of this package
        command, input=json.dumps(order), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [f"exit status {done.returncode}", *done.stderr.strip().splitlines()]
        kind = NoSuchModel if done.returncode == UNKNOWN_MODEL else WeightsUnavailable
        raise kind(f"{weights.card.name} could not be exported from {weights.source}: {said[-1]}")


def export(order: Mapping[str, Any]) -> None:
    """Write the graph of ``card`` with the weights at ``path`` to ``graph``, by renaming, so it is whole if it exists.

    A built-in network's is written without torch, any other's with it.

    Raises:
        ModelError: the network cannot be imported or the weights do not fit it.
    """
    # The origin of the weights is not needed here, and stays JSON.
    card = ModelCard(**order["card"] | {"transform": Transform(**order["card"]["transform"])})
    graph, weights = Path(order["graph"]), Path(order["path"]) if order["path"] else None
    with tempfile.TemporaryDirectory(dir=graph.parent) as folder:
        part = Path(folder) / graph.name
        if not (weights and _filled(card, weights, part)):
            from worker_models.torch_runtime import build

            write_graph(build(card, weights), part)
        part.replace(graph)


def _filled(card: ModelCard, weights: Path, target: Path) -> bool:
    """Write the graph without torch, if the network has a skeleton and the file can be read so; whether it was."""
    skeleton = skeletons.find(card)
    with suppress(UnreadableStateDict):
        if skeleton:
            try:
                skeletons.fill(skeleton, card, read_state_dict(weights), target)
            except WeightsUnavailable as error:
                raise WeightsUnavailable(f"{weights} holds no weights of this network: {error}") from error
            return True
    return False


def write_graph(network: Folded, target: Path, *, whole: bool = True) -> None:
    """Write ``network`` as an ONNX graph for batches of any size; without folding its tensors unless ``whole``."""
    import torch

    example = torch.zeros((2, *network.size, 3), dtype=torch.uint8)
    batch = {0: "batch"}
    # The TorchScript exporter: after onnxruntime's own optimisation the graph is as fast, in 1 s instead of 5 to 17 s
    # and without the package onnxscript.
    torch.onnx.export(
        network, (example,), str(target), input_names=[INPUT], output_names=[OUTPUT],
        dynamic_axes={INPUT: batch, OUTPUT: batch}, opset_version=OPSET, dynamo=False, do_constant_folding=whole,
        training=torch.onnx.TrainingMode.EVAL if whole else torch.onnx.TrainingMode.PRESERVE,
    )  # fmt: skip


def write_skeleton(card: ModelCard) -> Path:
    """Make the skeleton of a built-in card again; needs torch and onnx."""
    import onnx
    import torch

    from worker_models.torch_runtime import build

    network = build(card, None)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)  # the exporter merges tensors that are equal
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        write_graph(network, file, whole=False)
        graph = onnx.load(file)
    tensors = {}
    for tensor in graph.graph.initializer:
        tensors[tensor.name] = list(tensor.dims)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")
    path = skeletons.FOLDER / f"{card.architecture}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        about = json.dumps({"builder": card.builder, "tensors": tensors})
        for name, content in (("graph.onnx", graph.SerializeToString(deterministic=True)), ("tensors.json", about)):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)  # without today's date
    return path


def main() -> int:
    """Read the order on standard input and export; a failure is the last line on standard error."""
    try:
        export(json.load(sys.stdin))
    except ModelError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return UNKNOWN_MODEL if isinstance(error, NoSuchModel) else 1
    except ImportError as error:
        sys.stderr.write(f"exporting needs {error.name or 'torch'}, which is not installed: scripts/setup.sh torch\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
