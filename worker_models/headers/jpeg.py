"""JPEG: the segments up to the first scan, or of the whole file if it has several scans."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from worker_models.errors import TruncatedImage, UnsupportedImage
from worker_models.headers.header import UPRIGHT, Header, orientation

MAX_SEGMENTS = 4096
COUNTED_SCANS = 1000
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODED = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Frames that libjpeg-turbo reads: sequential and progressive, by Huffman or arithmetic coding."""
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_EXIF, _SCAN, _END = 0xE1, 0xDA, 0xD9
_METADATA = (frozenset(range(0xE1, 0xF0)) | {0xFE}) - {0xEE}
"""APP1 to APP15 and comments, without APP14 (Adobe): with APP0 (JFIF) it says how colours are stored."""

# Markers that have a segment: stuffed bytes, fill bytes and restarts have none. Searching never steps back.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
_LENGTH = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame header: ``factors`` are the sampling factors of each component, across and down."""

    progressive: bool
    width: int
    height: int
    factors: list[tuple[int, int]]

    @property
    def coefficients(self) -> int:
        """Bytes of all coefficients: two for each, in whole blocks of eight by eight."""
        across, down = (max(factor[axis] for factor in self.factors) for axis in (0, 1))
        columns, rows = -(-self.width // (8 * across)), -(-self.height // (8 * down))
        return 128 * columns * rows * sum(a * d for a, d in self.factors)


def read(data: bytes) -> Header:
    """The header of a JPEG. Scans are counted only if a decoder goes over the whole image for each."""
    frame: _Frame | None = None
    turned: int | None = None
    scans, whole = 0, False
    for marker, start, end in _segments(data):
        if marker == _EXIF and turned is None and data.startswith(b"Exif\0\0", start):
            turned = orientation(data[start:end])
        elif marker in _FRAMES and frame is None:
            frame = _frame(data, marker, start)
        elif marker == _SCAN and frame is not None:
            scans += 1
            whole = whole or frame.progressive or data[start] < len(frame.factors)
            if not whole or scans == COUNTED_SCANS:
                break
    if frame is None:
        raise TruncatedImage("the JPEG image ends inside its header")
    coefficients = frame.coefficients if whole else 0
    size = (frame.width, frame.height)
    return Header("JPEG", *size, len(frame.factors), 8, turned or UPRIGHT, max(scans, 1), coefficients)


def without_metadata(data: bytes) -> bytes:
    """The JPEG without its metadata before the first scan; Pillow reads none after it."""
    kept, begin = [], 0
    for marker, start, end in _segments(data):
        if marker == _SCAN:
            break
        if marker in _METADATA:
            kept.append(data[begin : start - 4])
            begin = end
    return b"".join((*kept, data[begin:]))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of the payload of each segment, up to the end of the image or of the data.

    Raises:
        UnsupportedImage: there are more than any image has.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or data[found.end() - 1] == _END:
            return
        begin = found.end()
        at = begin + max(_LENGTH.unpack_from(data, begin)[0], 2)
        yield data[begin - 1], begin + 2, at
    raise UnsupportedImage(f"the JPEG image has more than {MAX_SEGMENTS} segments")


def _frame(data: bytes, marker: int, start: int) -> _Frame:
    bits, height, width, components = struct.unpack_from(">BHHB", data, start)
    if marker not in _DECODED:
        raise UnsupportedImage("the JPEG image is lossless or hierarchical, which is not supported")
    if bits != 8:
        raise UnsupportedImage(f"the JPEG image has {bits} bits a sample; 8 are supported")
    if components not in {1, 3, 4}:
        raise UnsupportedImage(f"the JPEG image has {components} colour components; 1, 3 or 4 are supported")
    factors = [data[start + 7 + 3 * number] for number in range(components)]
    pairs = [(factor >> 4, factor & 15) for factor in factors]
    if not all(1 <= side <= 4 for pair in pairs for side in pair):
        raise UnsupportedImage("the JPEG image has sampling factors that are not from 1 to 4")
    return _Frame(marker in _PROGRESSIVE, width, height, pairs)
