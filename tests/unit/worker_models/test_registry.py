from __future__ import annotations

import subprocess
import sys

import pytest

from worker_models.errors import NoSuchModel, WeightsUnavailable
from worker_models.registry import REGISTRY, describe, imagenet_labels, labels_from


def test_the_registry_has_the_five_models_in_order():
    assert tuple(REGISTRY) == ("mobilenet", "resnet18", "efficientnet", "squeezenet", "efficientnet_lite0")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(NoSuchModel, match=r"'resnet19'.*mobilenet, resnet18"):
        describe("resnet19")


def test_a_card_says_what_the_api_shows():
    card = describe("mobilenet")
    assert (card.architecture, card.input_size, card.classes) == ("mobilenet_v2", (224, 224), 1000)


def test_cards_equal_what_torchvision_says_about_its_weights():
    from worker_models.builders import allow_torchvision

    allow_torchvision()
    from torchvision.models import get_model_weights

    for card in REGISTRY.values():
        if card.hub is None:
            continue
        published = get_model_weights(card.architecture)[card.hub.name]
        preset = published.transforms()
        assert published.url.endswith("/" + card.hub.file)
        assert [card.hub.transform.crop, card.hub.transform.resize] == [*preset.crop_size, *preset.resize_size]
        assert card.hub.transform.interpolation == preset.interpolation.value
        assert card.hub.transform.mean == pytest.approx([255 * value for value in preset.mean])
        assert card.hub.transform.std == pytest.approx([255 * value for value in preset.std])
        assert tuple(published.meta["categories"]) == imagenet_labels()


def test_the_registry_imports_nothing_heavy():
    program = "import sys, worker_models.registry; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "torchvision", "onnxruntime", "PIL", "numpy"}.isdisjoint(loaded)


def test_labels_of_ones_own_are_one_a_line(tmp_path):
    path = tmp_path / "flowers.labels.txt"
    path.write_text("daisy\n rose \n\ntulip\n", encoding="utf-8")
    assert labels_from(path) == ("daisy", "rose", "tulip")


@pytest.mark.parametrize("content", [b"daisy\n", b"", b"\xff\xfe\xff"])
def test_labels_that_make_no_classifier_are_refused(tmp_path, content: bytes):
    path = tmp_path / "flowers.labels.txt"
    path.write_bytes(content)
    with pytest.raises(WeightsUnavailable, match=r"flowers\.labels\.txt"):
        labels_from(path)
