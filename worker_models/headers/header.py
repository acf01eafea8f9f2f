"""The header of an encoded image, and its Exif orientation."""

import struct
from dataclasses import dataclass

UPRIGHT = 1
_TAG = 0x0112
_MAX_ENTRIES = 1024
_INTEGERS = {1: "B", 3: "H", 4: "I"}
"""Field types a number may have: BYTE, SHORT, LONG."""
MAX_PARTS = 65_536
"""The most chunks or blocks that are parsed: each costs time, and no real file has more."""


@dataclass(frozen=True, slots=True)
class Header:
    """The headers of an image.

    Attributes:
        format: JPEG, PNG, GIF, BMP or WEBP.
        width: in pixels as stored, before turning upright.
        height: the same.
        channels: samples of a pixel; 1 for gray and for an index into a palette.
        bits: of a sample.
        orientation: Exif orientation, 1 to 8; 1 (upright) if there is no valid one.
        scans: of a JPEG, counted to COUNTED_SCANS at most; 1 for other formats.
        coefficients: bytes that a JPEG decoder keeps of an image in several scans; else 0.
        packed: whether a bitmap is run-length encoded.
    """

    format: str
    width: int
    height: int
    channels: int = 3
    bits: int = 8
    orientation: int = UPRIGHT
    scans: int = 1
    coefficients: int = 0
    packed: bool = False

    @property
    def pixels(self) -> int:
        """How many pixels decoding would make."""
        return self.width * self.height


def orientation(block: bytes) -> int:
    """The orientation (1 to 8) in a block, with or without its ``Exif`` prefix; upright if it has no valid one."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return UPRIGHT
    try:
        value = _in_first_directory(block, order)
    except struct.error:
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def _in_first_directory(block: bytes, order: str) -> int:
    (directory,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, directory)
    for number in range(min(count, _MAX_ENTRIES)):
        at = directory + 2 + 12 * number
        tag, kind, values = struct.unpack_from(f"{order}HHI", block, at)
        if tag == _TAG:
            readable = values == 1 and kind in _INTEGERS
            return int(struct.unpack_from(f"{order}{_INTEGERS[kind]}", block, at + 8)[0]) if readable else UPRIGHT
    return UPRIGHT
