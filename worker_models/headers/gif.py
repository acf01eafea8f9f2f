"""GIF: its screen and its first frame."""

import struct

from worker_models.errors import TruncatedImage, UnsupportedImage
from worker_models.headers.header import MAX_PARTS, Header

_EXTENSION, _FRAME, _END = 0x21, 0x2C, 0x3B
_CONTROL = b"\x21\xf9\x04"
"""How a graphic control extension begins; it names the index that is transparent."""


def read(data: bytes) -> Header:
    """The header of a GIF. A first frame that is larger than the screen makes the image larger."""
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, across, down = struct.unpack_from("<HHHH", data, _first_frame(data)[1] + 1)
    return Header("GIF", max(width, left + across), max(height, top + down), 1)


def without_metadata(data: bytes) -> bytes:
    """The GIF without comments and applications' data before its first frame."""
    control, frame = _first_frame(data)
    kept = data[control : control + 8] if control else b""
    return data[: _after_palette(data)] + kept + data[frame:]


def _after_palette(data: bytes) -> int:
    flags = data[10]
    return 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)


def _first_frame(data: bytes) -> tuple[int, int]:
    """Where the last control extension before the first frame begins (0 without one), and where the frame does."""
    at, control, inside = _after_palette(data), 0, False
    for _ in range(MAX_PARTS):
        byte = data[at]
        if inside:  # an extension: its blocks have their length first, and the last has none
            at, inside = at + 1 + byte, byte > 0
        elif byte == _FRAME:
            return control, at
        elif byte == _END:
            raise TruncatedImage("the GIF image has no frame")
        elif byte == _EXTENSION:
            control = at if data.startswith(_CONTROL, at) else control
            at, inside = at + 2, True
        else:
            at += 1  # stray bytes are skipped, as decoders do
    raise UnsupportedImage(f"the GIF image has more than {MAX_PARTS} blocks before its first frame")
