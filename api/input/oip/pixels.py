"""Tensors of pixels as image files, so that the queue carries them like any image."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from api.input.oip.tensors import Tensor, numbers, wrong
from worker_models.limits import Limits

#: Floats are converted one by one, so their images are bounded: 0.2 s of one core.
MAX_FLOAT_PIXELS = 640 * 640


def images(tensor: Tensor, limits: Limits) -> Iterator[bytes]:
    """One PNG per image of a tensor of shape ``(n, height, width, 3)``, RGB.

    UINT8 is 0 to 255, FP32 is 0.0 to 1.0 and is rounded to 8 bits. FP32 outside of that is refused: it is another scale
    (0 to 255, or normalized), and its answer would be silently wrong.
    """
    if len(tensor.shape) != 4 or tensor.shape[3] != 3 or 0 in tensor.shape:
        raise wrong(tensor.name, "must have the shape (images, height, width, 3)")
    _, height, width, _ = tensor.shape
    limit = min(limits.max_pixels, MAX_FLOAT_PIXELS) if tensor.datatype == "FP32" else limits.max_pixels
    if height * width > limit:
        raise wrong(tensor.name, f"has {height} x {width} pixels, more than {limit}")
    if max(height, width) > limits.max_side:
        raise wrong(tensor.name, f"has {height} x {width} pixels; a side may have at most {limits.max_side}")
    data = _bytes(tensor)
    size = height * width * 3
    return (png(width, height, data[at : at + size]) for at in range(0, len(data), size))


def _bytes(tensor: Tensor) -> bytes:
    if tensor.datatype == "UINT8":
        return numbers(tensor, "B").tobytes()
    if tensor.datatype != "FP32":
        raise wrong(tensor.name, "must be UINT8 or FP32")
    values = numbers(tensor, "f")
    if not all(0.0 <= value <= 1.0 for value in values):  # false for NaN
        raise wrong(tensor.name, "must have numbers from 0.0 to 1.0 as FP32")
    return bytes([int(value * 255 + 0.5) for value in values])


def png(width: int, height: int, rgb: bytes) -> bytes:
    """A PNG of 8-bit RGB rows; hardly compressed, because it is short-lived."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(_rows(width, height, rgb), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _rows(width: int, height: int, rgb: bytes) -> bytearray:
    """Each row after its filter byte (none); copied by columns where there are fewer of those."""
    row = width * 3
    rows = bytearray(height * (row + 1))
    if row < height:
        for column in range(row):
            rows[column + 1 :: row + 1] = rgb[column::row]
    else:
        for line in range(height):
            rows[line * (row + 1) + 1 : (line + 1) * (row + 1)] = rgb[line * row : (line + 1) * row]
    return rows


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
