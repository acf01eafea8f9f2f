from __future__ import annotations

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from worker_models import runtimes
from worker_models.errors import InferenceFailed
from worker_models.graphs import write_graph
from worker_models.registry import REGISTRY, Transform
from worker_models.runtimes import GraphUnusable, OnnxRuntime, choose
from worker_models.torch_runtime import Folded, TorchRuntime, build


@pytest.fixture(scope="session")
def pixels(photos) -> np.ndarray:
    """Three photographs as a batch of network input."""
    return np.stack([np.asarray(photos[name].resize((224, 224))) for name in ("chelsea", "coffee", "rocket")])


def graph_of(network: Folded, folder: Path) -> Path:
    """The graph of a network, exported in this process."""
    graph = folder / "net.onnx"
    with warnings.catch_warnings(action="ignore"):  # the tracer's, about networks that are not ours
        write_graph(network, graph)
    return graph


@pytest.fixture(scope="module")
def squeezenet() -> Folded:
    return build(REGISTRY["squeezenet"], None)


@pytest.fixture(scope="module")
def squeezenet_graph(squeezenet: Folded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph_of(squeezenet, tmp_path_factory.mktemp("squeezenet"))


@pytest.mark.parametrize("name", REGISTRY)
def test_the_graph_gives_what_eager_torch_gives(settings_with, pixels, tmp_path: Path, name: str):
    network, settings = build(REGISTRY[name], None), settings_with(intra_op_threads="2")
    graph = OnnxRuntime(graph_of(network, tmp_path), settings)
    eager = TorchRuntime(network, settings, device="cpu")
    for batch in (pixels[:1], pixels[:2], pixels):
        expected = eager.run(batch)
        ours = graph.run(batch)
        assert ours.dtype == np.float32
        assert ours.shape == (len(batch), 1000)
        np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(ours.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(eager.run(pixels), axis=0).max() > 1e-6, "the network must tell the photographs apart"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_size_of_batch_answers_each_image_alike(settings_with, pixels, squeezenet_graph: Path, threads: int):
    runtime = OnnxRuntime(squeezenet_graph, settings_with(intra_op_threads=str(threads)))
    alone = np.concatenate([runtime.run(pixel[np.newaxis]) for pixel in pixels])
    for size in range(1, 10):
        order = np.arange(size) % len(pixels)
        np.testing.assert_allclose(runtime.run(pixels[order]), alone[order], rtol=1e-4)
    runtime.close()


def test_passes_side_by_side_answer_as_one_alone_does(settings_with, pixels, squeezenet_graph: Path):
    runtime = OnnxRuntime(squeezenet_graph, settings_with(intra_op_threads="2"))
    assert runtime.passes == 2
    alone = np.concatenate([runtime.run(pixel[np.newaxis]) for pixel in pixels])
    orders = [np.arange(start, start + size) % len(pixels) for start in range(30) for size in (1, 2)]
    with ThreadPoolExecutor(runtime.passes) as threads:
        for order, found in zip(orders, threads.map(lambda order: runtime.run(pixels[order]), orders), strict=True):
            np.testing.assert_allclose(found, alone[order], rtol=1e-4)
    runtime.close()


def test_folding_equals_the_reference_arithmetic():
    class Flat(torch.nn.Module):
        def forward(self, normalized: torch.Tensor) -> torch.Tensor:
            return normalized.flatten(1)

    pixels = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normalized = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
    expected = torch.softmax(normalized.flatten(1), dim=1)
    torch.testing.assert_close(Folded(Flat(), Transform())(pixels), expected)


def test_a_file_that_is_no_graph_is_unusable(settings_with, tmp_path: Path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(GraphUnusable, match=r"net\.onnx"):
        OnnxRuntime(path, settings_with())


def test_both_runtimes_turn_their_errors_into_ours(settings_with, squeezenet: Folded, squeezenet_graph: Path):
    tiny = np.zeros((1, 2, 2, 3), np.uint8)
    for runtime in (
        OnnxRuntime(squeezenet_graph, settings_with()),
        TorchRuntime(squeezenet, settings_with(), device="cpu"),
    ):
        with pytest.raises(InferenceFailed, match=f"^{runtime.name}: "):
            runtime.run(tiny)


def test_random_weights_are_the_same_every_time_and_leave_torchs_own_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (build(REGISTRY["squeezenet"], None).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("variables", "device", "cuda", "expected"),
    [
        ({}, False, False, "onnxruntime"),
        ({}, True, False, "onnxruntime"),
        ({}, True, True, "torch"),
        ({"runtime": "onnxruntime"}, True, True, "onnxruntime"),
        ({"runtime": "torch"}, False, False, "torch"),
    ],
)
def test_the_runtime_follows_the_setting_and_the_device(settings_with, monkeypatch, variables, device, cuda, expected):
    monkeypatch.setattr(runtimes, "_cuda_likely", lambda: device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert choose(settings_with(**variables)) == expected


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_devices_are_no_devices(monkeypatch, hidden: str):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert not runtimes._cuda_likely()


def test_without_a_device_torch_is_not_imported_to_find_that_out(settings_with, monkeypatch):
    monkeypatch.setattr(runtimes, "_cuda_likely", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose(settings_with()) == "onnxruntime"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_what_the_cpu_gives(settings_with, pixels):
    card = REGISTRY["resnet18"]
    exact = TorchRuntime(build(card, None), settings_with(), device="cpu").run(pixels)
    fast = TorchRuntime(build(card, None), settings_with(), device="cuda")
    assert np.abs(fast.run(pixels) - exact).max() < 0.02
