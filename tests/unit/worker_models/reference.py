"""The reference the product's decoding is held to: Pillow's decoder and torchvision's own transforms, step by step."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from worker_models.builders import allow_torchvision
from worker_models.registry import Transform

allow_torchvision()

from torchvision.transforms import InterpolationMode  # noqa: E402 - needs the operators defined first
from torchvision.transforms import functional as steps  # noqa: E402


def reference_pixels(data: bytes, transform: Transform) -> NDArray[np.uint8]:
    """What torchvision's ``ImageClassification`` preset feeds a network, before scaling to floats."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    image = steps.resize(image, transform.resize, InterpolationMode(transform.interpolation), antialias=True)
    return np.asarray(steps.center_crop(image, transform.crop))
