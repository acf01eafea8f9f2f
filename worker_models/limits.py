"""Limits of an image's cost: checked by its header before anything is decoded, by the API and again by a worker.

Decoding cannot be interrupted, so its time and memory are bounded in advance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.settings import Settings
from worker_models import errors
from worker_models.headers import Header, read_header
from worker_models.machine import memory_bytes

MIB = 1024 * 1024
MAX_SCANS = 100
"""The most scans of a JPEG. Progressive ones have about ten."""
SCANS_OF_THE_LARGEST = 20
"""The most scans of an image of the most pixels; a smaller one may have more. Each takes 20 ms for 50 megapixels."""
MAX_PACKED_PIXELS = 4_000_000
"""The most pixels of a run-length encoded bitmap: Pillow unpacks it in Python, half a second for each million."""
SHARE = 0.375
"""The share of a worker's memory for its decoders: the model, its passes and encoded images need the rest."""
SMALLEST_SCALE = 8
"""A large JPEG may be decoded at an eighth of its size."""
OVERHEAD = 8 * MIB
"""Bytes that decoding takes for an image of any size: rows being scaled, the decoders' buffers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an image may cost.

    Attributes:
        max_bytes: as encoded.
        max_pixels: width times height.
        max_side: width or height.
        memory: bytes that a worker's decoders take together.
    """

    max_bytes: int
    max_pixels: int
    max_side: int = 65_535
    memory: int = 384 * MIB

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits in ``settings``, for any worker."""
        return cls(settings.max_image_bytes, settings.max_image_pixels, settings.max_image_side, settings.decode_memory)

    @classmethod
    def of_worker(cls, settings: Settings) -> Limits:
        """The same, with no more memory than a worker's decoders may take on this machine."""
        share = int(memory_bytes() / settings.workers_on_host * SHARE)
        limits = cls.of(settings)
        return replace(limits, memory=min(limits.memory, share))

    def check(self, data: bytes) -> Header:
        """The header of an encoded image that is within the limits.

        Raises:
            InvalidInput: it is no image, or over a limit.
        """
        self.check_bytes(len(data))
        header = read_header(data)
        self._check_size(header)
        self._check_time(header)
        self.check_memory(decode_bytes(header), header)
        return header

    def check_bytes(self, size: int) -> None:
        """Raise ImageTooLarge for an image of too many encoded bytes."""
        if size > self.max_bytes:
            raise errors.ImageTooLarge(f"the image has {size} bytes; at most {self.max_bytes} are accepted")

    def _check_size(self, header: Header) -> None:
        size = f"{header.width} x {header.height}"
        if header.width < 1 or header.height < 1:
            raise errors.UnsupportedImage(f"the image is {size} pixels: there is nothing to classify")
        if header.pixels > self.max_pixels:
            raise errors.TooManyPixels(f"the image is {size} pixels; at most {self.max_pixels} are accepted")
        if max(header.width, header.height) > self.max_side:
            raise errors.SideTooLong(f"the image is {size} pixels; a side may have at most {self.max_side}")

    def _check_time(self, header: Header) -> None:
        most = min(MAX_SCANS, SCANS_OF_THE_LARGEST * self.max_pixels // header.pixels)
        if header.scans > most:
            raise errors.TooManyScans(f"the JPEG image has more scans than the {most} that one of its size may have")
        if header.packed and header.pixels > MAX_PACKED_PIXELS:
            raise errors.TooManyPixels(f"a run-length encoded bitmap may have at most {MAX_PACKED_PIXELS} pixels")

    def check_memory(self, needed: int, header: Header) -> None:
        """Raise DecodeTooLarge for an image that needs more bytes of memory than all that decoders have."""
        if needed > self.memory:
            raise errors.DecodeTooLarge(
                f"the {header.format} image of {header.width} x {header.height} pixels needs {needed // MIB} MiB to be "
                f"decoded; at most {self.memory // MIB} MiB are available"
            )


def decode_bytes(header: Header, scale: int = SMALLEST_SCALE) -> int:
    """The most memory that decoding takes, in bytes; a JPEG is decoded ``scale`` times smaller."""
    if header.format == "JPEG":
        width, height = -(-header.width // scale), -(-header.height // scale)
        # The square that is scaled is copied out of the decoded pixels; a long strip of them is not.
        return OVERHEAD + header.coefficients + 4 * width * height + 9 * min(width, height) ** 2
    return OVERHEAD + header.pixels * _bytes_for_a_pixel(header)


def _bytes_for_a_pixel(header: Header) -> int:
    """Bytes that Pillow and scaling take per pixel; measured by a test."""
    if header.format == "WEBP":
        return 17  # two canvases, the frame, and the image, four bytes each
    if header.packed:
        return 5
    if header.channels == 1:
        return 2 if header.bits <= 8 else 3  # the image, and a gray or one of its three channels
    return 4 if header.channels == 3 else 5  # as above
