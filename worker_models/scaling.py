"""Cuts the network's input out of an image and scales it to a square, with antialiasing.

The reference resizes the shorter side, then cuts out the middle. Scaling only that part gives the same pixels (to one
step in 255) for half the work, and a long sliver of an image never becomes a huge one.

Decoded JPEGs are scaled by fast_image_resize, with vector instructions in a quarter of Pillow's time. It rounds to
eight bits between the two directions, as torchvision does for tensors: a fifth of the pixels differ from Pillow's by
one step of 255, and bicubic ones by more at the hardest edges, where values are clipped to 0 to 255 once more. Pillow
scales what it has decoded, and everything where there is no build of fast_image_resize (Linux on ARM).
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from worker_models.registry import Transform
from worker_models.runtimes import Pixels

try:
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
except ImportError:
    VECTORIZED = False
else:
    VECTORIZED = True
    _ALGORITHMS = {
        "bilinear": ResizeAlg.convolution(FilterType.bilinear),
        "bicubic": ResizeAlg.convolution(FilterType.catmull_rom),
    }

Box = tuple[float, float, float, float]

_REACH = 2
"""How far bicubic filtering reads beyond the box, in pixels of the result; bilinear reads half of that."""
_STRIP = 1_000_000
"""How many 16-bit pixels are shortened to eight at a time."""
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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

    def pixels(self, stored: Pixels) -> Pixels:
        """``(height, width, 3)`` turned upright; the same array when there is nothing to do."""
        turned = stored.transpose(1, 0, 2) if self.transpose else stored
        turned = turned[:, ::-1] if self.mirror else turned
        turned = turned[::-1] if self.flip else turned
        return np.ascontiguousarray(turned)


TURNS = {
    number: Turn(transpose=number >= 5, mirror=number in {2, 3, 6, 7}, flip=number in {3, 4, 7, 8})
    for number in range(1, 9)
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


def scale_pixels(pixels: Pixels, box: Box, transform: Transform) -> Pixels:
    """uint8 ``(crop, crop, 3)`` of the part ``box`` of ``pixels`` ``(height, width, 3)``, C-contiguous.

    Raises:
        ValueError: the box is empty or not inside.
    """
    if not VECTORIZED:
        return scale_image(Image.fromarray(pixels), box, transform)
    height, width = pixels.shape[:2]
    (first, above, last, below), box = cut_box((width, height), box, transform)
    read = pixels[above:below, first:last]
    left, top, right, bottom = box
    source = ImageData(last - first, below - above, PixelType.U8x3, read.tobytes())
    scaled = ImageData(transform.crop, transform.crop, PixelType.U8x3)
    options = ResizeOptions(_ALGORITHMS[transform.interpolation], False, CropBox(left, top, right - left, bottom - top))
    try:
        Resizer().resize(source, scaled, options)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return np.frombuffer(scaled.get_buffer(), dtype=np.uint8).reshape(transform.crop, transform.crop, 3)


def scale_image(image: Image.Image, box: Box, transform: Transform) -> Pixels:
    """The same of a Pillow image in any mode; transparency is dropped, 16 bits keep their upper eight.

    Channel by channel where that saves an RGB copy of the whole image, which takes four bytes per pixel.
    """
    if image.mode == "RGB":
        return _pixels(_resized(image, box, transform))
    if channels := _resized_channels(image, box, transform):
        return _pixels(Image.merge("RGB", channels * (3 // len(channels))))
    read, box = cut_box(image.size, box, transform)
    return _pixels(_resized(image.crop(read).convert("RGB"), box, transform))


def _resized(image: Image.Image, box: Box, transform: Transform) -> Image.Image:
    return image.resize((transform.crop, transform.crop), _FILTERS[transform.interpolation], box=box)


def _resized_channels(image: Image.Image, box: Box, transform: Transform) -> list[Image.Image]:
    """Gray, or red, green and blue, each resized; empty for a mode that has to be converted first."""
    if image.mode in {"RGBA", "RGBX"}:
        return [_resized(image.getchannel(band), box, transform) for band in "RGB"]
    if image.mode == "P":
        colours = (image.getpalette("RGB") or []) + [0] * 768
        tables = (colours[band:768:3] for band in range(3))  # the value of each index
        return [_resized(image.point(table, "L"), box, transform) for table in tables]
    gray = _gray(image)
    return [_resized(gray, box, transform)] if gray else []


def _gray(image: Image.Image) -> Image.Image | None:
    """The gray of an image without colours; else None."""
    if image.mode == "L":
        return image
    if image.mode == "LA":
        return image.getchannel("L")
    if image.mode.startswith("I;16"):
        return _upper_bits(image)
    return image.convert("L") if image.mode == "1" else None


def _upper_bits(image: Image.Image) -> Image.Image:
    """The upper eight of 16 bits, a few rows at a time to save memory; Pillow's own conversion would clip."""
    width, height = image.size
    upper = Image.new("L", image.size)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        upper.paste(Image.fromarray((strip >> 8).astype(np.uint8)), (0, top))
    return upper


def cut_box(size: tuple[int, int], box: Box, transform: Transform) -> tuple[tuple[int, int, int, int], Box]:
    """The pixels that scaling ``box`` reads of an image of this ``size``, and the box in those."""
    left, top, right, bottom = box
    reach = [_REACH * max(1.0, side / transform.crop) + 1 for side in (right - left, bottom - top)]
    first = max(0, int(left - reach[0])), max(0, int(top - reach[1]))
    last = min(size[0], int(right + reach[0]) + 1), min(size[1], int(bottom + reach[1]) + 1)
    return (*first, *last), (left - first[0], top - first[1], right - first[0], bottom - first[1])


def _pixels(image: Image.Image) -> Pixels:
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(image.height, image.width, 3)
