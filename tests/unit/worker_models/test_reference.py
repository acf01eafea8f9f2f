"""Same top class as torchvision's reference transform, on real photographs and a model with real weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.unit.worker_models.reference import reference_pixels
from worker_models.model import Classifier
from worker_models.registry import describe

TRANSFORM = describe("efficientnet_lite0").transform
ENCODINGS = [
    ("JPEG", {"quality": 92}),
    ("JPEG", {"quality": 70, "subsampling": 2}),
    ("PNG", {}),
    ("WEBP", {"quality": 85}),
]


def variants(photo: Image.Image) -> Iterator[Image.Image]:
    """The photo, mirrored, and two off-centre cuts of it."""
    width, height = photo.size
    yield photo
    yield ImageOps.mirror(photo)
    yield photo.crop((0, 0, int(width * 0.85), int(height * 0.9)))
    yield photo.crop((int(width * 0.2), int(height * 0.1), width, height))


@pytest.fixture(scope="session")
def photo_set(photos, encoded) -> list[bytes]:
    pictures = [variant for photo in photos.values() for variant in variants(photo)]
    return [encoded(picture, kind, **options) for picture in pictures for kind, options in ENCODINGS]


def both(model: Classifier, photo_set: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities from our decoding and from the reference's, ``(images, classes)`` each."""
    ours = np.stack([model.infer([model.decode(data)])[0] for data in photo_set])
    reference = np.stack([model.infer([reference_pixels(data, TRANSFORM)])[0] for data in photo_set])
    return ours, reference


def test_the_top_class_is_the_references_on_99_of_100_photographs(lite0: Classifier, photo_set):
    assert len(photo_set) >= 100
    ours, reference = both(lite0, photo_set)
    same = (ours.argmax(axis=1) == reference.argmax(axis=1)).mean()
    assert same >= 0.99
    # Measured: 127 of 128 the same, 0.019 at most, 0.0006 in the median; torchvision's own way for tensors differs
    # from its way for Pillow's images by 0.022 at most and 0.004 in the median.
    assert np.abs(ours - reference).max() < 0.03
    lead = np.diff(np.sort(reference, axis=1)[:, -2:]).ravel()
    assert (ours.argmax(axis=1) == reference.argmax(axis=1))[lead > 0.03].all()
    assert len(set(reference.argmax(axis=1))) >= 8, "the set must hold different things"


@pytest.mark.parametrize("short", [1500, 3024])
def test_a_large_jpeg_decoded_small_keeps_every_clear_answer(lite0: Classifier, photos, encoded, short: int):
    large = [ImageOps.scale(photo, short / min(photo.size)) for photo in photos.values()]
    ours, reference = both(lite0, [encoded(picture, "JPEG", quality=90) for picture in large])
    lead = np.diff(np.sort(reference, axis=1)[:, -2:]).ravel()
    same = ours.argmax(axis=1) == reference.argmax(axis=1)
    assert same[lead > 0.05].all()
    assert (lead > 0.05).sum() >= 5, "most of these photographs have a clear answer"
    assert np.abs(ours - reference).max() < 0.1
