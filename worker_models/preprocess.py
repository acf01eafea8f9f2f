"""Encoded bytes to the pixels a network takes.

Nothing is decoded before the header has been read and found within the limits (:mod:`worker_models.limits`), and before
the memory that decoding takes is free. JPEG, by far the most common upload, takes a short way through libjpeg-turbo, at
half, quarter or eighth scale when the image is large enough that the network cannot tell; whatever is unusual about it
(CMYK, damage, an odd sampling) goes the common way through Pillow, without its metadata.
The result equals torchvision's reference transform on the same upright image.
"""

from __future__ import annotations

import io
import math
import struct
import zlib

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from worker_models.budget import Budget
from worker_models.errors import TruncatedImage
from worker_models.geometry import Box, crop_box, turn
from worker_models.headers import Header, without_metadata
from worker_models.limits import Limits, decode_bytes
from worker_models.registry import Transform
from worker_models.scaling import scale_image, scale_pixels

Pixels = NDArray[np.uint8]

# What Pillow's decoders raise on bytes that are not what they claim to be.
_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error
)  # fmt: skip
_SCALES = (8, 4, 2)
"""Denominators of the scales libjpeg-turbo decodes at with vector instructions; others cost more than they save."""
HEADROOM = 2.9
"""A JPEG is decoded small only while its shorter side stays this many times what the transform resizes it to.

Measured: probabilities then move by at most 0.09 and mostly by 0.01, and only classes closer than 0.03 ever change
places. A phone's 3024 pixels still fall to a quarter, which is a third of the work.
"""

# worker_models.limits replaces Pillow's own limit, which is a warning at one size and an error at twice that.
Image.MAX_IMAGE_PIXELS = None


_memory = Budget()


def decode(data: bytes, transform: Transform, limits: Limits) -> Pixels:
    """The network's input: uint8 ``(crop, crop, 3)``, RGB, upright, C-contiguous.

    Waits while other threads of this process decode with so much memory that ``limits`` leave too little.

    Raises:
        EmptyImage: no bytes.
        UnsupportedImage: not JPEG, PNG, WebP, BMP or GIF, or a variant that is not decoded, or without pixels.
        ImageTooLarge: over a limit.
        TruncatedImage: ends early or is damaged.
    """
    header = limits.check(data)
    needed = decode_bytes(header, jpeg_scale(min(header.width, header.height), transform)) + len(data)
    limits.check_memory(needed, header)
    with _memory.hold(needed, limits.memory):
        return _decode(data, header, transform)


def _decode(data: bytes, header: Header, transform: Transform) -> Pixels:
    if header.format == "JPEG" and header.channels in {1, 3}:
        try:
            return _decode_jpeg(data, header, transform)
        except ValueError:
            pass  # libjpeg-turbo's strict reading objects to things Pillow reads well; Pillow has the last word
    size = (header.width, header.height)
    image = _open(data, header, jpeg_scale(min(size), transform))
    box = _box(image.size, size, header.orientation, transform)
    return turn(header.orientation).pixels(scale_image(image, box, transform))


def _decode_jpeg(data: bytes, header: Header, transform: Transform) -> Pixels:
    """The short way. Raises ValueError at anything libjpeg-turbo objects to."""
    size = (header.width, header.height)
    scale = jpeg_scale(min(size), transform)
    least = [math.ceil(side / scale) for side in size]
    stored = simplejpeg.decode_jpeg(data, "RGB", min_width=least[0], min_height=least[1])
    height, width = stored.shape[:2]
    box = _box((width, height), size, header.orientation, transform)
    return turn(header.orientation).pixels(scale_pixels(stored, box, transform))


def jpeg_scale(short_side: int, transform: Transform) -> int:
    """By how much (1, 2, 4 or 8) a JPEG with this shorter side may be decoded smaller than it is."""
    least = transform.resize * HEADROOM
    return next((scale for scale in _SCALES if short_side / scale >= least), 1)


def _open(data: bytes, header: Header, scale: int) -> Image.Image:
    """The decoded image, by Pillow; a JPEG as many times smaller as ``scale`` says."""
    size = (header.width, header.height)
    try:
        image = Image.open(io.BytesIO(without_metadata(data, header)), formats=[header.format])
        if image.size != size:
            raise TruncatedImage(f"the {header.format} image says two sizes: it is damaged")
        if header.format == "JPEG":
            image.draft(None, (size[0] // scale, size[1] // scale))
        image.load()
    except _DAMAGE as error:
        raise TruncatedImage(f"the {header.format} image is cut short or damaged") from error
    return image


def _box(stored: tuple[int, int], size: tuple[int, int], orientation: int, transform: Transform) -> Box:
    """The part that the network sees, in stored pixels.

    Args:
        stored: width and height of the stored pixels, perhaps smaller than ``size``.
        size: stored width and height at full scale.
        orientation: Exif orientation of the stored pixels.
        transform: what the network wants.
    """
    turned = turn(orientation)
    width, height = size[::-1] if turned.transpose else size
    box = turned.box(crop_box(width, height, transform), width, height)
    across, down = stored[0] / size[0], stored[1] / size[1]
    return (
        max(0.0, box[0] * across),
        max(0.0, box[1] * down),
        min(stored[0], box[2] * across),
        min(stored[1], box[3] * down),
    )
