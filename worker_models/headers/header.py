"""What an encoded image says about itself."""

from __future__ import annotations

from dataclasses import dataclass

UPRIGHT = 1
MAX_PARTS = 65_536
"""The most chunks or blocks that are parsed: each costs time, and no real file has more."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image's headers say.

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
