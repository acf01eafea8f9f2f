"""What an encoded image says about itself."""

from __future__ import annotations

from dataclasses import dataclass

UPRIGHT = 1
MAX_PARTS = 65_536
"""How many chunks or blocks of a file are looked at: more are refused, because each costs time and none has so many."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image's headers say.

    Attributes:
        format: JPEG, PNG, GIF, BMP or WEBP.
        width: as stored, in pixels, before any turning.
        height: as stored, in pixels.
        channels: samples of a pixel; 1 for gray and for an index into a palette.
        bits: of a sample.
        orientation: Exif orientation 1 to 8; 1 (upright) where there is none that makes sense.
        scans: passes over a JPEG's pixels, counted up to a little more than any real image has; 1 for other formats.
        coefficients: bytes that a JPEG decoder keeps for all of an image that comes in several scans; else 0.
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
