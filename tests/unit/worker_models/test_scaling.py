from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from worker_models import scaling
from worker_models.registry import Transform
from worker_models.scaling import Box, crop_box, scale_image, scale_pixels

SIDES = st.integers(1, 700)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def seen(width: int, height: int, transform: Transform) -> Box:
    left, top, right, bottom = crop_box(width, height, transform)
    return (max(0.0, left), max(0.0, top), min(width, right), min(height, bottom))


def differences(pixels: np.ndarray, transform: Transform) -> np.ndarray:
    """How far each value is from Pillow's, in steps of 255."""
    box = seen(pixels.shape[1], pixels.shape[0], transform)
    scaled = scale_pixels(pixels, box, transform)
    assert (scaled.dtype, scaled.shape) == (np.uint8, (transform.crop, transform.crop, 3))
    assert scaled.flags.c_contiguous
    return np.abs(scaled.astype(int) - scale_image(Image.fromarray(pixels), box, transform))


@given(width=SIDES, height=SIDES, crop=st.sampled_from([32, 224]))
@settings(max_examples=100, deadline=None)
def test_noise_of_any_size_is_scaled_as_pillow_does(width: int, height: int, crop: int):
    found = differences(noise(height, width), Transform(resize=crop + 32, crop=crop))
    # Both round after each direction, in another order: either is within one of the exact value.
    assert found.max() <= 2
    assert found.mean() < 0.5


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 1), ("bicubic", 8)])
@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
def test_a_photo_is_scaled_as_pillow_does(photos, name: str, interpolation: str, most: int):
    found = differences(np.asarray(photos[name].convert("RGB")), Transform(interpolation=interpolation))
    assert found.max() <= most
    assert found.mean() < 0.3


def test_without_a_build_for_this_machine_pillow_scales(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scaling, "VECTORIZED", False)
    pixels, box = noise(300, 400), (50.0, 20.0, 300.5, 270.5)
    assert np.array_equal(
        scale_pixels(pixels, box, Transform()), scale_image(Image.fromarray(pixels), box, Transform())
    )


@pytest.mark.parametrize("vectorized", [False, scaling.VECTORIZED])
@pytest.mark.parametrize("box", [(-5.0, 0.0, 10.0, 10.0), (0.0, 0.0, 41.0, 10.0), (9.0, 9.0, 3.0, 3.0)])
def test_a_box_that_is_not_inside_is_an_error(monkeypatch: pytest.MonkeyPatch, vectorized: bool, box: tuple):
    monkeypatch.setattr(scaling, "VECTORIZED", vectorized)
    with pytest.raises(ValueError, match=r"."):
        scale_pixels(noise(30, 40), box, Transform())
