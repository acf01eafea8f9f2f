"""Graphs of the built-in networks without their weights, so that exporting them needs no torch.

``NETWORK.zip`` has the ONNX graph and the shapes of its missing tensors. onnxruntime fills them in and writes the
complete graph. ``python -m worker_models skeletons`` makes the files again, with torch, after a change of a network.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker_models.errors import WeightsUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker_models.registry import ModelCard, Transform

FOLDER = Path(__file__).parent


def find(card: ModelCard) -> Path | None:
    """The skeleton of a card's network; None if there is none, or for other classes."""
    path = FOLDER / f"{card.architecture}.zip"
    if card.classes != 1000 or not path.is_file():
        return None
    return path if _about(path)["builder"] == card.builder else None


def fill(skeleton: Path, card: ModelCard, state: Mapping[str, NDArray[np.generic]], target: Path) -> None:
    """Write the complete graph of ``card`` with the weights in ``state``.

    Raises:
        WeightsUnavailable: these are no weights of this network.
    """
    import numpy as np
    import onnxruntime

    shapes = {name: tuple(shape) for name, shape in _about(skeleton)["tensors"].items()}
    given = {f"network.{name}": array for name, array in state.items() if not name.endswith(".num_batches_tracked")}
    given |= constants(card.transform)
    found = {name: array.shape for name, array in given.items()}
    wrong = [name for name in sorted(shapes | found) if found.get(name) != shapes.get(name)]
    if wrong:
        examples = ", ".join(wrong[:3])
        raise WeightsUnavailable(f"{len(wrong)} tensors are missing, unexpected or of another shape: {examples}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    arrays = [np.asarray(given[name], dtype=np.float32) for name in shapes]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
    options.add_external_initializers(list(shapes), values)
    with zipfile.ZipFile(skeleton) as archive:
        onnxruntime.InferenceSession(archive.read("graph.onnx"), options, providers=["CPUExecutionProvider"])


def constants(transform: Transform) -> dict[str, NDArray[np.float32]]:
    """The tensors of the graph that come from the transform."""
    import numpy as np

    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (transform.mean, transform.std))
    return {"mean": mean, "scale": np.float32(1) / std}


def _about(skeleton: Path) -> dict[str, Any]:
    with zipfile.ZipFile(skeleton) as archive:
        about: dict[str, Any] = json.loads(archive.read("tensors.json"))
    return about
