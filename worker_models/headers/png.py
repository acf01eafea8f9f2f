"""PNG: its first chunk, and the orientation in its Exif chunk."""

import struct
import zlib
from collections.abc import Iterator

from worker_models.errors import UnsupportedImage
from worker_models.headers.header import MAX_PARTS, UPRIGHT, Header, orientation

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_BITS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_PALETTE = 3


def read(data: bytes) -> Header:
    """The header of a PNG."""
    width, height, bits, colour, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if data[12:16] == b"CgBI":
        raise UnsupportedImage("the PNG image is in the variant for iPhones (CgBI), which is not supported")
    if data[12:16] != b"IHDR":
        raise UnsupportedImage("the PNG image does not begin with its header (IHDR)")
    if bits not in _BITS.get(colour, ()):
        raise UnsupportedImage(f"the PNG image has colour type {colour} with {bits} bits, which is not supported")
    if compression or filtering or interlace > 1:
        raise UnsupportedImage("the PNG image is compressed, filtered or interlaced in an unsupported way")
    return Header("PNG", width, height, _CHANNELS[colour], bits, _orientation(data))


def without_metadata(data: bytes) -> bytes:
    """The PNG with its critical chunks only; those are not changed."""
    needed = {b"IHDR", b"IDAT", b"IEND"}
    if data[25] == _PALETTE:
        needed.add(b"PLTE")
    return data[:8] + b"".join(data[start:end] for kind, start, end in _chunks(data) if kind in needed)


def _orientation(data: bytes) -> int:
    for kind, start, end in _chunks(data):
        if kind == b"eXIf":
            intact = zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
            return orientation(data[start + 8 : end - 4]) if intact else UPRIGHT
    return UPRIGHT


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of each chunk, up to the end of the image or of the data.

    Raises:
        UnsupportedImage: there are more than any image has.
    """
    at, size = 8, len(data)
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at, at + 12 + length
        if kind == b"IEND":
            return
        at += 12 + length
    raise UnsupportedImage(f"the PNG image has more than {MAX_PARTS} chunks")
