"""Encoded bytes to the pixels a network takes. All limits on images live here.

Nothing is decoded before the header has been read and found within the limits. JPEG, by far the most common upload,
takes a short way through libjpeg-turbo, at half, quarter or eighth scale when the image is large enough that the
network cannot tell; whatever is unusual about it (CMYK, damage, an odd sampling) goes the common way through Pillow.
The result equals torchvision's reference transform on the same upright image.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from worker_models.errors import ImageTooLarge, TruncatedImage, UnsupportedImage
from worker_models.geometry import Box, crop_box, turn
from worker_models.headers import UPRIGHT, Header, read_header
from worker_models.registry import Transform
from worker_models.scaling import scale_image, scale_pixels

Pixels = NDArray[np.uint8]

# What Pillow's decoders raise on bytes that are not what they claim to be.
_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error
)  # fmt: skip
_ORIENTATION_TAG = 0x0112
_SCALES = (8, 4, 2)
"""Denominators of the scales libjpeg-turbo decodes at with vector instructions; others cost more than they save."""
HEADROOM = 2.9
"""A JPEG is decoded small only while its shorter side stays this many times what the transform resizes it to.

Measured: probabilities then move by at most 0.09 and mostly by 0.01, and only classes closer than 0.03 ever change
places. A phone's 3024 pixels still fall to a quarter, which is a third of the work.
"""

# Limits below replace Pillow's own, which is a warning at one size and an error at twice that.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest image that is decoded."""

    max_bytes: int
    max_pixels: int


def decode(data: bytes, transform: Transform, limits: Limits) -> Pixels:
    """The network's input: uint8 ``(crop, crop, 3)``, RGB, upright, C-contiguous.

    Raises:
        UnsupportedImage: not JPEG, PNG, WebP, BMP or GIF, or without pixels.
        ImageTooLarge: over a limit.
        TruncatedImage: ends early or is damaged.
    """
    header = check(data, limits)
    if header.format == "JPEG" and header.components in (1, 3):
        try:
            return _decode_jpeg(data, header, transform)
        except ValueError:
            pass  # libjpeg-turbo's strict reading objects to things Pillow reads well; Pillow has the last word
    image, orientation = _open(data, header, limits)
    box = _box(image.size, image.size, orientation, transform)
    return turn(orientation).pixels(scale_image(image, box, transform))


def check(data: bytes, limits: Limits) -> Header:
    """The image's header, when the image is within ``limits``. Decodes nothing.

    Raises:
        InvalidInput: as :func:`decode`.
    """
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image has {len(data)} bytes; at most {limits.max_bytes} are accepted")
    header = read_header(data)
    _check_pixels(header.width, header.height, limits)
    return header


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise UnsupportedImage(f"the image is {width} x {height} pixels: there is nothing to classify")
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"the image is {width} x {height} pixels; at most {limits.max_pixels} are accepted")


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


def _open(data: bytes, header: Header, limits: Limits) -> tuple[Image.Image, int]:
    """The decoded image as RGB and its Exif orientation, by Pillow."""
    try:
        image = Image.open(io.BytesIO(data), formats=[header.format])
        # A GIF's first frame may be larger than its header says, so what Pillow found is checked as well.
        _check_pixels(*image.size, limits)
        image.load()
        return _to_rgb(image), int(image.getexif().get(_ORIENTATION_TAG, UPRIGHT))
    except _DAMAGE as error:
        raise TruncatedImage(f"the {header.format} image is cut short or damaged: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB as the reference makes it: transparency is dropped, 16 bits keep their upper eight."""
    if image.mode.startswith("I"):
        high = np.asarray(image).astype(np.uint32) >> 8
        image = Image.fromarray(high.clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


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
