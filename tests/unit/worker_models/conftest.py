"""Photographs from scikit-image, settings with their own cache, and the one model whose weights a package ships."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from common.settings import Settings, load_settings
from worker_models.model import Classifier, load_card
from worker_models.registry import describe

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "retina", "hubble_deep_field")

SettingsFactory = Callable[..., Settings]


def _settings(cache: Path, **variables: str) -> Settings:
    return load_settings({"MODEL_CACHE_DIR": str(cache), **{key.upper(): value for key, value in variables.items()}})


@pytest.fixture
def settings_with(tmp_path: Path) -> SettingsFactory:
    """Settings from the variables given, with an empty model cache and nothing from the environment."""
    return partial(_settings, tmp_path / "models")


@pytest.fixture(scope="session")
def shared_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose model cache all tests share."""
    return _settings(tmp_path_factory.mktemp("models"), max_batch="4", runtime="onnxruntime")


@pytest.fixture(scope="session")
def lite0(shared_settings: Settings) -> Classifier:
    """EfficientNet-Lite0 with its real weights, on onnxruntime."""
    return load_card(describe("efficientnet_lite0"), shared_settings)


@pytest.fixture(scope="session")
def photos() -> dict[str, Image.Image]:
    """A few real photographs by name, as RGB."""
    return {name: Image.fromarray(_rgb(getattr(skimage.data, name)())) for name in PHOTOS}


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """``encoded(image, "JPEG", quality=90)``: the image as a file's bytes."""

    def encode(image: Image.Image, kind: str, **options: object) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    return encode
