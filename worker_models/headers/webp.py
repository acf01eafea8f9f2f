"""WebP: its canvas, and the orientation in its Exif chunk."""

import struct

from worker_models.errors import TruncatedImage, UnsupportedImage
from worker_models.headers.header import MAX_PARTS, UPRIGHT, Header, orientation

_EXTENDED = 30
"""Where the first chunk after the one that says the canvas begins."""


def read(data: bytes) -> Header:
    """The header of a WebP image, animated or not."""
    kind = struct.unpack_from("<4s", data, 12)[0]
    if data[8:12] != b"WEBP":
        raise UnsupportedImage("the bytes are a RIFF file, but no WebP image")
    if kind == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", data, 24)
        size = (width | width_high << 16) + 1, (height | height_high << 16) + 1
        return Header("WEBP", *size, 4, orientation=_orientation(data))
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        _check(signature == 0x2F)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 4)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        _check(data[23:26] == b"\x9d\x01\x2a")
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF, 3)
    raise UnsupportedImage("the WebP image does not begin with a chunk of a known kind")


def _check(signature: bool) -> None:
    if not signature:
        raise TruncatedImage("the WebP image has no valid image header: it is damaged")


def _orientation(data: bytes) -> int:
    at = _EXTENDED
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            return orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    return UPRIGHT
