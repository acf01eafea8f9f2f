from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from worker_models.registry import Transform
from worker_models.scaling import TURNS, crop_box


def test_the_box_of_a_square_is_its_middle():
    assert crop_box(512, 512, Transform(resize=256, crop=224)) == (32, 32, 480, 480)


@given(width=st.integers(1, 20_000), height=st.integers(1, 20_000), resize=st.sampled_from([224, 232, 256]))
def test_the_box_lies_inside_and_keeps_its_shape(width: int, height: int, resize: int):
    left, top, right, bottom = crop_box(width, height, Transform(resize=resize))
    assert -1e-6 <= left < right <= width + 1e-6
    assert -1e-6 <= top < bottom <= height + 1e-6
    assert (right - left) / (bottom - top) == pytest.approx(1, rel=1 / resize + 1e-9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_equals_pillows_exif_transpose(orientation: int):
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8))
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(TURNS[orientation].pixels(np.asarray(stored)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@given(data=st.data())
def test_a_box_of_the_upright_image_holds_the_same_pixels_when_cut_before_turning(orientation: int, data):
    width, height = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    turning = TURNS[orientation]
    shape = (width, height, 3) if turning.transpose else (height, width, 3)
    stored = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    upright = turning.pixels(stored)[top:bottom, left:right]
    x0, y0, x1, y1 = (int(side) for side in turning.box((left, top, right, bottom), width, height))
    assert np.array_equal(turning.pixels(stored[y0:y1, x0:x1]), upright)
