"""Encoded bytes to the pixels a network takes, equal to torchvision's reference transform of the upright image.

Nothing is decoded before its header is within the limits (:mod:`worker_models.limits`) and the memory for it is free.
JPEGs, by far the most common uploads, take a fast path through libjpeg-turbo, and large ones are decoded at half,
quarter or eighth scale. Unusual ones (CMYK, damage, an odd sampling) and other formats go through Pillow, without their
metadata.
"""

import io
import math
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import simplejpeg
from PIL import Image

from worker_models.errors import TruncatedImage
from worker_models.headers import Header, without_metadata
from worker_models.limits import Limits, decode_bytes
from worker_models.registry import Transform
from worker_models.runtimes import Pixels
from worker_models.scaling import TURNS, Box, crop_box, scale_image, scale_pixels

# What Pillow's decoders raise for damaged images.
_DAMAGE = (
    OSError, EOFError, SyntaxError, ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error
)  # fmt: skip
_SCALES = (8, 4, 2)
"""Denominators of the scales libjpeg-turbo decodes at with vector instructions; others cost more than they save."""
HEADROOM = 2.9
"""A JPEG is decoded small only while its shorter side stays this many times the transform's size.

Measured: probabilities then move by at most 0.09 and mostly by 0.01, and only classes closer than 0.03 ever change
places. A phone's 3024 pixels still fall to a quarter, which is a third of the work.
"""

# worker_models.limits replaces Pillow's own limit, which is a warning at one size and an error at twice that.
Image.MAX_IMAGE_PIXELS = None


class MemoryBudget:
    """Admits decoders in their order while the memory they need fits, so that a large one is never starved."""

    def __init__(self) -> None:
        self.used = 0
        self._turn = threading.Lock()
        self._freed = threading.Condition()

    @contextmanager
    def hold(self, needed: int, total: int) -> Iterator[None]:
        """Wait until ``needed`` bytes of ``total`` are free, and keep them for one ``with`` block."""
        with self._turn, self._freed:
            self._freed.wait_for(lambda: not self.used or self.used + needed <= total)
            self.used += needed
        try:
            yield
        finally:
            with self._freed:
                self.used -= needed
                self._freed.notify_all()


_memory = MemoryBudget()


def decode(data: bytes, transform: Transform, limits: Limits) -> Pixels:
    """The network's input: uint8 ``(crop, crop, 3)``, RGB, upright, C-contiguous.

    Waits while other threads of this process use so much memory for decoding that ``limits`` leave too little.

    Raises:
        EmptyImage: no bytes.
        UnsupportedImage: not JPEG, PNG, WebP, BMP or GIF, or a variant that is not decoded, or without pixels.
        ImageTooLarge: over a limit.
        TruncatedImage: ends early or is damaged.
    """
    header = limits.check(data)
    scale = jpeg_scale(min(header.width, header.height), transform)
    needed = decode_bytes(header, scale) + len(data)
    limits.check_memory(needed, header)
    with _memory.hold(needed, limits.memory):
        return _decode(data, header, transform, scale)


def _decode(data: bytes, header: Header, transform: Transform, scale: int) -> Pixels:
    if header.format == "JPEG" and header.channels in {1, 3}:
        try:
            return _decode_jpeg(data, header, transform, scale)
        except ValueError:
            pass  # libjpeg-turbo refuses some images that Pillow reads well
    image = _open(data, header, scale)
    box = _box(image.size, header, transform)
    return TURNS[header.orientation].pixels(scale_image(image, box, transform))


def _decode_jpeg(data: bytes, header: Header, transform: Transform, scale: int) -> Pixels:
    """The fast path. Raises ValueError for an image that libjpeg-turbo refuses."""
    width, height = math.ceil(header.width / scale), math.ceil(header.height / scale)
    stored = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    box = _box(stored.shape[1::-1], header, transform)
    return TURNS[header.orientation].pixels(scale_pixels(stored, box, transform))


def jpeg_scale(short_side: int, transform: Transform) -> int:
    """How many times smaller (1, 2, 4 or 8) a JPEG with this shorter side may be decoded."""
    least = transform.resize * HEADROOM
    return next((scale for scale in _SCALES if short_side / scale >= least), 1)


def _open(data: bytes, header: Header, scale: int) -> Image.Image:
    """The image as Pillow decodes it; a JPEG ``scale`` times smaller."""
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


def _box(decoded: tuple[int, ...], header: Header, transform: Transform) -> Box:
    """The part that the network sees, in pixels of the ``decoded`` size, which may be smaller than the image."""
    turn = TURNS[header.orientation]
    width, height = (header.height, header.width) if turn.transpose else (header.width, header.height)
    box = turn.box(crop_box(width, height, transform), width, height)
    across, down = decoded[0] / header.width, decoded[1] / header.height
    return (
        max(0.0, box[0] * across),
        max(0.0, box[1] * down),
        min(decoded[0], box[2] * across),
        min(decoded[1], box[3] * down),
    )
