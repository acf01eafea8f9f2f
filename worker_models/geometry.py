"""Where the network's input lies in an image: one box to cut and scale in one step, and how to turn the result.

The reference resizes the shorter side, then cuts out the middle. Scaling only that part gives the same pixels (to one
step in 255) for half the work, and a long sliver of an image never becomes a huge one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker_models.registry import Transform

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Turn:
    """How stored pixels become upright: exchange rows and columns, then flip left-right, then top-bottom."""

    transpose: bool
    mirror: bool
    flip: bool

    def box(self, upright: Box, width: int, height: int) -> Box:
        """A box of the upright image, whose size is given, in stored pixels."""
        left, top, right, bottom = upright
        if self.flip:
            top, bottom = height - bottom, height - top
        if self.mirror:
            left, right = width - right, width - left
        return (top, left, bottom, right) if self.transpose else (left, top, right, bottom)

    def pixels(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``(height, width, 3)`` turned upright; the same array when there is nothing to do."""
        turned = stored.transpose(1, 0, 2) if self.transpose else stored
        turned = turned[:, ::-1] if self.mirror else turned
        turned = turned[::-1] if self.flip else turned
        return np.ascontiguousarray(turned)


TURNS = {
    1: Turn(transpose=False, mirror=False, flip=False),
    2: Turn(transpose=False, mirror=True, flip=False),
    3: Turn(transpose=False, mirror=True, flip=True),
    4: Turn(transpose=False, mirror=False, flip=True),
    5: Turn(transpose=True, mirror=False, flip=False),
    6: Turn(transpose=True, mirror=True, flip=False),
    7: Turn(transpose=True, mirror=True, flip=True),
    8: Turn(transpose=True, mirror=False, flip=True),
}
"""How to turn an image upright, by its Exif orientation."""


def crop_box(width: int, height: int, transform: Transform) -> Box:
    """The part of an upright image that the network sees, rounded as torchvision's ``Resize`` and ``CenterCrop`` do."""
    short = min(width, height)
    scaled_width = int(transform.resize * width / short)
    scaled_height = int(transform.resize * height / short)
    left = round((scaled_width - transform.crop) / 2)
    top = round((scaled_height - transform.crop) / 2)
    across, down = width / scaled_width, height / scaled_height
    return (left * across, top * down, (left + transform.crop) * across, (top + transform.crop) * down)
