"""Scales a part of an image to a square, with a filter as wide as the scale asks for (antialiasing).

Decoded JPEGs are scaled with vector instructions by fast_image_resize, in a quarter of Pillow's time. It rounds to
eight bits between the two directions, as torchvision does for tensors: a fifth of the pixels differ from Pillow's by
one step of 255, and bicubic ones by more at the hardest edges, where what lies outside 0 to 255 is cut off once more.
Where there is no build of it (Linux on ARM), and for everything that Pillow has decoded, Pillow scales.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker_models.geometry import Box
from worker_models.registry import Transform

try:
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
except ImportError:
    VECTORIZED = False
else:
    VECTORIZED = True
    _ALGORITHMS = {
        "bilinear": ResizeAlg.convolution(FilterType.bilinear),
        "bicubic": ResizeAlg.convolution(FilterType.catmull_rom),
    }

Pixels = NDArray[np.uint8]

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def scale_pixels(pixels: Pixels, box: Box, transform: Transform) -> Pixels:
    """uint8 ``(crop, crop, 3)`` of the part ``box`` of ``pixels`` ``(height, width, 3)``, C-contiguous.

    Raises:
        ValueError: the box is empty or not inside.
    """
    if not VECTORIZED:
        return scale_image(Image.fromarray(pixels), box, transform)
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    source = ImageData(width, height, PixelType.U8x3, pixels.tobytes())
    scaled = ImageData(transform.crop, transform.crop, PixelType.U8x3)
    options = ResizeOptions(_ALGORITHMS[transform.interpolation], False, CropBox(left, top, right - left, bottom - top))
    try:
        Resizer().resize(source, scaled, options)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return np.frombuffer(scaled.get_buffer(), dtype=np.uint8).reshape(transform.crop, transform.crop, 3)


def scale_image(image: Image.Image, box: Box, transform: Transform) -> Pixels:
    """The same of an RGB image of Pillow's."""
    crop = transform.crop
    scaled = image.resize((crop, crop), _FILTERS[transform.interpolation], box=box)
    return np.frombuffer(scaled.tobytes(), dtype=np.uint8).reshape(crop, crop, 3)
