"""Export one network to an ONNX graph: a child process of :mod:`worker_models.graphs`, which reads its order as JSON.

The graph takes uint8 pixels as the decoder leaves them and returns probabilities; layout change, scaling, mean and
standard deviation and softmax are inside it, so a worker does no other arithmetic.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker_models import skeletons
from worker_models.errors import ModelError, UnknownModel, WeightsUnavailable
from worker_models.registry import ModelCard, Transform
from worker_models.state_dict import UnreadableStateDict, read_state_dict

if TYPE_CHECKING:
    from worker_models.network import Folded

OPSET = 18
UNKNOWN_MODEL = 3
"""The exit status when the network cannot be imported; 1 means any other failure."""
INPUT = "pixels"
OUTPUT = "probabilities"


def export(order: Mapping[str, Any]) -> None:
    """Write the graph and its JSON file as ``order`` says; see :func:`worker_models.graphs.obtain_graph`.

    Raises:
        ModelError: the network cannot be imported or the weights do not fit it.
    """
    # What says where weights come from is not needed here, and stays JSON.
    card = order["card"] | {"transform": Transform(**order["card"]["transform"])}
    weights = Path(order["path"]) if order["path"] else None
    graph = Path(order["graph"])
    with tempfile.TemporaryDirectory(dir=graph.parent) as folder:
        part = Path(folder) / graph.name
        _write(ModelCard(**card), weights, part)
        note = part.with_suffix(".json")
        note.write_text(json.dumps(_facts(order), indent=2) + "\n", encoding="utf-8")
        part.replace(graph)
        note.replace(graph.with_suffix(".json"))


def _write(card: ModelCard, weights: Path | None, target: Path) -> None:
    """Write the graph: a built-in network's without torch, any other's with it."""
    skeleton = skeletons.find(card)
    if skeleton and weights:
        with suppress(UnreadableStateDict):
            try:
                skeletons.fill(skeleton, card, read_state_dict(weights), target)
            except WeightsUnavailable as error:
                raise WeightsUnavailable(f"{weights} holds no weights of this network: {error}") from error
            return
    from worker_models.network import build

    write_graph(build(card, weights), target)


def write_graph(network: Folded, target: Path, *, whole: bool = True) -> None:
    """Write ``network`` as an ONNX graph for batches of any size; without folding its tensors unless ``whole``."""
    import torch

    example = torch.zeros((2, *network.size, 3), dtype=torch.uint8)
    batch = {0: "batch"}
    # The TorchScript exporter: after onnxruntime's own optimisation the graph is as fast, in 1 s instead of 5 to 17 s
    # and without the package onnxscript.
    torch.onnx.export(
        network,
        (example,),
        str(target),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: batch, OUTPUT: batch},
        opset_version=OPSET,
        dynamo=False,
        do_constant_folding=whole,
        training=torch.onnx.TrainingMode.EVAL if whole else torch.onnx.TrainingMode.PRESERVE,
    )


def write_skeleton(card: ModelCard) -> Path:
    """Make the skeleton of a built-in card again; needs torch and onnx."""
    import onnx
    import torch

    from worker_models.network import build

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


def _facts(order: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": order["card"]["name"],
        "builder": order["card"]["builder"],
        "weights": order["weights"],
        "identity": order["identity"],
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in ("onnxruntime", "torch", "torchvision")},
        "opset": OPSET,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> int:
    """Read the order on standard input; a failure is the last line on standard error."""
    try:
        export(json.load(sys.stdin))
    except ModelError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return UNKNOWN_MODEL if isinstance(error, UnknownModel) else 1
    except ImportError as error:
        sys.stderr.write(f"exporting needs {error.name or 'torch'}, which is not installed: scripts/setup.sh torch\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
