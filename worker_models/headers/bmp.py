"""BMP: its bitmap header, of Windows or OS/2."""

import struct

from worker_models.errors import UnsupportedImage
from worker_models.headers.header import Header

_CORE = 12
_SIZES = frozenset({40, 52, 56, 64, 108, 124})
_PLAIN, _RLE8, _RLE4, _FIELDS = range(4)
_PALETTE_BITS = frozenset({1, 4, 8})
_MASKS: dict[int, frozenset[tuple[int, ...]]] = {
    16: frozenset({(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)}),
    24: frozenset({(0xFF0000, 0xFF00, 0xFF)}),
    32: frozenset(
        tuple(0xFF << 8 * order.index(colour) if colour in order else 0 for colour in "RGBA")
        for order in ("BGRX", "XBGR", "BGXR", "ABGR", "RGBA", "BGRA", "BGAR", "XXXX")
    ),
}
"""The bits of red, green, blue and, for 32 bits a pixel, alpha, in the orders that Pillow reads."""


def read(data: bytes) -> Header:
    """The header of a bitmap. A negative height means rows from top to bottom."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = _PLAIN
    elif size in _SIZES:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise UnsupportedImage(f"the BMP image has a header of {size} bytes, which is no supported variant")
    _check_pixels(data, size, bits, compression)
    channels = 1 if bits in _PALETTE_BITS else max(3, bits // 8)
    return Header("BMP", width, abs(height), channels, packed=compression in {_RLE8, _RLE4})


def _check_pixels(data: bytes, size: int, bits: int, compression: int) -> None:
    if bits not in _PALETTE_BITS | _MASKS.keys():
        raise UnsupportedImage(f"the BMP image has {bits} bits a pixel, which is no supported variant")
    packed_bits = {_RLE8: 8, _RLE4: 4}.get(compression, bits)
    if compression not in {_PLAIN, _RLE8, _RLE4, _FIELDS} or packed_bits != bits:
        raise UnsupportedImage(f"the BMP image has compression {compression} with {bits} bits: no supported variant")
    if compression != _FIELDS:
        return
    masks = struct.unpack_from("<IIII" if size >= 56 else "<III", data, 54)  # the shortest header has none for alpha
    if (*masks, 0)[: 4 if bits == 32 else 3] not in _MASKS.get(bits, ()):
        raise UnsupportedImage("the BMP image has colours in an order of bits (bitfields) that is not supported")
