"""What docs/models.md shows works as it stands there."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from worker_models.model import load_model
from worker_models.registry import REGISTRY

DOCUMENT = Path(__file__).parents[3] / "docs" / "models.md"
MODULES = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with every module of the document."""
    assert [name for name, _ in MODULES] == ["flower_network", "flower_model", "brightness_model"]
    for name, source in MODULES:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_the_flower_model_answers_with_its_own_weights(examples, settings_with, encoded, runtime: str):
    network = importlib.import_module("flower_network").flower_network(3)
    torch.save(network.state_dict(), examples / "flowers.pth")
    model = load_model("flower_model:factory", settings_with(weights_dir=str(examples), runtime=runtime))
    output = model.infer([model.decode(encoded(Image.new("RGB", (300, 200), "pink"), "JPEG"))])[0]
    assert {row["class"] for row in model.predictions(output, 5)} == {"daisy", "rose", "tulip"}
    assert model.weights == "WEIGHTS_DIR:flowers.pth"


@pytest.mark.parametrize(("colour", "answer"), [("white", "bright"), ("black", "dark")])
def test_the_brightness_model_answers(examples, settings_with, encoded, colour: str, answer: str):
    model = load_model("brightness_model:factory", settings_with())
    model.warm_up()
    output = model.infer([model.decode(encoded(Image.new("RGB", (30, 20), colour), "PNG"))])[0]
    assert model.predictions(output, 1) == [{"class": answer, "index": answer == "dark", "confidence": 1.0}]
    model.close()


def test_the_table_lists_the_registry():
    named = re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == list(REGISTRY)
