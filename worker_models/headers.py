"""Read what an encoded image says about itself, without decoding it: format, size, and for JPEG how it is turned.

These few bytes decide whether an image is decoded at all, so this module parses them itself and allocates nothing that
depends on them. Sources: PNG (W3C), GIF89a, BMP (Windows bitmap headers), WebP container (RFC 9649), JPEG (ITU T.81),
Exif 2.32.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from worker_models.errors import TruncatedImage, UnsupportedImage

UPRIGHT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What an image's first bytes say.

    Attributes:
        format: JPEG, PNG, GIF, BMP or WEBP.
        width: as stored, in pixels, before any turning.
        height: as stored, in pixels.
        orientation: Exif orientation 1 to 8 for JPEG; 1 (upright) where the format's decoder has to say.
        components: colour components of a JPEG, 0 for other formats.
    """

    format: str
    width: int
    height: int
    orientation: int = UPRIGHT
    components: int = 0

    @property
    def pixels(self) -> int:
        """How many pixels decoding would make."""
        return self.width * self.height


def read_header(data: bytes) -> Header:
    """The header of an encoded image.

    Raises:
        UnsupportedImage: empty, or of no known format.
        TruncatedImage: of a known format, but ends inside its header.
    """
    if not data:
        raise UnsupportedImage("the image is empty")
    for magic, name, parse in _FORMATS:
        if data.startswith(magic):
            return _parsed(name, parse, data)
    raise UnsupportedImage("the bytes are no JPEG, PNG, WebP, BMP or GIF image")


def _parsed(name: str, parse: Callable[[bytes], Header], data: bytes) -> Header:
    try:
        return parse(data)
    except (struct.error, IndexError) as error:
        raise TruncatedImage(f"the {name} image ends inside its header") from error


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    return Header("PNG", width, height)


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", width, height)


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", abs(width), abs(height))


def _webp(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        raise UnsupportedImage("the bytes are a RIFF file, but no WebP image")
    kind = data[12:16]
    if kind == b"VP8X":
        low = struct.unpack_from("<HBHB", data, 24)
        return Header("WEBP", (low[0] | low[1] << 16) + 1, (low[2] | low[3] << 16) + 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("WEBP", width & 0x3FFF, height & 0x3FFF)


def _jpeg(data: bytes) -> Header:
    orientation = UPRIGHT
    for marker, start in _segments(data):
        if marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", data, start + 1)
            return Header("JPEG", width, height, orientation, components)
        if marker == 0xE1 and data.startswith(b"Exif\0\0", start):
            orientation = _orientation(data, start + 6)
    raise TruncatedImage("the JPEG image has no frame")


# Start-of-frame markers; C4, C8 and CC in their midst mean something else.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and offset of the payload of each segment before the first scan."""
    at = 2
    while True:
        while data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):
            at += 1
        marker = data[at + 1]
        if marker in (0xD9, 0xDA):
            return
        if marker in _BARE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, at + 4
        at += 2 + max(length, 2)


def _orientation(data: bytes, tiff: int) -> int:
    """The orientation tag of the Exif block whose TIFF header is at ``tiff``; upright when it makes no sense."""
    order = {b"II": "<", b"MM": ">"}.get(data[tiff : tiff + 2])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(f"{order}I", data, tiff + 4)
        (count,) = struct.unpack_from(f"{order}H", data, tiff + directory)
        for entry in range(tiff + directory + 2, tiff + directory + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", data, entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else UPRIGHT
    except struct.error:
        return UPRIGHT
    return UPRIGHT


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], Header]], ...] = (
    (b"\xff\xd8\xff", "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "PNG", _png),
    (b"GIF87a", "GIF", _gif),
    (b"GIF89a", "GIF", _gif),
    (b"BM", "BMP", _bmp),
    (b"RIFF", "WebP", _webp),
)
