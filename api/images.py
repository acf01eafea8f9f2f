"""Looks at the first bytes of an image, never decodes it: what format it claims to be and how many pixels.

This is what lets the API refuse text files and decompression bombs at once, without Pillow in its process. It is not
the judge of an image: the worker decodes it and has the last word. Formats: JPEG, PNG, GIF, WebP and BMP.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from api.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp")

_BE_SIZE = Struct(">II")
_BE_PAIR = Struct(">HH")
_BE_SHORT = Struct(">H")
_LE_PAIR = Struct("<HH")
_LE_WORD = Struct("<I")
_LE_SIGNED = Struct("<ii")

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn, without DHT, JPG and DAC
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length: TEM, RSTn
_MAX_JPEG_SEGMENTS = 4096


class _Short(Exception):
    """The data ends inside the header."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header says: ``format`` is one of jpeg, png, gif, webp, bmp; sizes are in pixels."""

    format: str
    width: int
    height: int


def check(data: bytes, *, max_bytes: int, max_pixels: int) -> ImageHeader:
    """The header of ``data``.

    Raises:
        Problem: ``empty_image``, ``image_too_large`` (bytes), ``unsupported_image``, ``truncated_image`` or
            ``too_many_pixels``.
    """
    if not data:
        raise Problem("empty_image", "The image has no bytes.")
    if len(data) > max_bytes:
        raise too_large(len(data), max_bytes)
    header = sniff(data)
    if header.width < 1 or header.height < 1:
        raise Problem("unsupported_image", f"The {header.format} header says {header.width} x {header.height} pixels.")
    if header.width * header.height > max_pixels:
        size = f"{header.width} x {header.height}"
        raise Problem("too_many_pixels", f"The image has {size} pixels, more than {max_pixels} in all.")
    return header


def too_large(size: int, limit: int) -> Problem:
    """The problem of an image of ``size`` bytes where ``limit`` are allowed."""
    return Problem("image_too_large", f"The image has {size} bytes; the limit is {limit}.")


def sniff(data: bytes) -> ImageHeader:
    """Format and dimensions from the magic bytes and the header.

    Raises:
        Problem: ``unsupported_image`` for unknown magic bytes, ``truncated_image`` when the header is not whole.
    """
    name, measure = _recognize(data)
    try:
        width, height = measure(data)
    except _Short:
        raise Problem("truncated_image", f"The {name} data ends before its header does.") from None
    return ImageHeader(name, width, height)


def _recognize(data: bytes) -> tuple[str, Callable[[bytes], tuple[int, int]]]:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg", _jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png", _png
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif", _gif
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp", _webp
    if data.startswith(b"BM") and len(data) > 14:
        return "bmp", _bmp
    raise Problem("unsupported_image", "The data is not a JPEG, PNG, GIF, WebP or BMP image.")


def _read(layout: Struct, data: bytes, offset: int) -> tuple[int, ...]:
    if offset + layout.size > len(data):
        raise _Short
    return layout.unpack_from(data, offset)


def _png(data: bytes) -> tuple[int, int]:
    width, height = _read(_BE_SIZE, data, 16)
    if data[12:16] != b"IHDR":
        raise Problem("unsupported_image", "The PNG does not begin with an IHDR chunk.")
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = _read(_LE_PAIR, data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    (header_size,) = _read(_LE_WORD, data, 14)
    width, height = _read(_LE_PAIR if header_size == 12 else _LE_SIGNED, data, 18)
    return width, abs(height)  # a negative height means rows from top to bottom


def _webp(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return _uint24(data, 24) + 1, _uint24(data, 27) + 1
    if chunk == b"VP8L":
        (bits,) = _read(_LE_WORD, data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = _read(_LE_PAIR, data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if len(data) < 16:
        raise _Short
    raise Problem("unsupported_image", "The WebP data does not begin with an image chunk.")


def _uint24(data: bytes, offset: int) -> int:
    if offset + 3 > len(data):
        raise _Short
    return int.from_bytes(data[offset : offset + 3], "little")


def _jpeg(data: bytes) -> tuple[int, int]:
    """Walk the segments up to the frame header (SOFn), which has the size."""
    offset = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker, offset = _jpeg_marker(data, offset)
        if marker in _JPEG_FRAMES:
            height, width = _read(_BE_PAIR, data, offset + 3)
            return width, height
        if marker not in _JPEG_BARE:
            (length,) = _read(_BE_SHORT, data, offset)
            offset += max(length, 2)
    raise Problem("unsupported_image", "The JPEG has too many segments before its frame header.")


def _jpeg_marker(data: bytes, offset: int) -> tuple[int, int]:
    """The next marker at or after ``offset`` and where its segment begins; stray bytes are skipped as decoders do."""
    offset = data.find(b"\xff", offset)
    if offset < 0:
        raise _Short
    while offset < len(data) and data[offset] == 0xFF:
        offset += 1
    if offset >= len(data):
        raise _Short
    return data[offset], offset + 1
