"""The one parser of image headers: format, size, depth, scans and orientation, without decoding.

The API and the workers refuse images by it, so it is linear in the size of the file, allocates nothing by sizes in the
file, and imports no decoder.
Sources: PNG (W3C), GIF89a, BMP (Windows bitmap headers), WebP container (RFC 9649), JPEG (ITU T.81), Exif 2.32.

Orientation follows one rule: the first Exif block counts, where the format keeps it (APP1 of a JPEG, ``eXIf`` of a PNG,
``EXIF`` of a WebP). Its tag may be any unsigned integer from 1 to 8. XMP and comments do not count. A block that cannot
be read means upright.
"""

import struct
from collections.abc import Callable

from worker_models.errors import EmptyImage, TruncatedImage, UnsupportedImage
from worker_models.headers import bmp, gif, jpeg, png, webp
from worker_models.headers.header import Header

__all__ = ["Header", "read_header", "without_metadata"]


def read_header(data: bytes) -> Header:
    """The header of an encoded image.

    Raises:
        EmptyImage: no bytes.
        UnsupportedImage: of no known format, or a variant of one that no decoder here reads.
        TruncatedImage: of a known format, but ends inside its header.
    """
    if not data:
        raise EmptyImage("the image has no bytes")
    for magic, name, parse in _FORMATS:
        if data.startswith(magic):
            try:
                return parse(data)
            except (struct.error, IndexError) as error:
                raise TruncatedImage(f"the {name} image ends inside its header") from error
    raise UnsupportedImage("the bytes are no JPEG, PNG, WebP, BMP or GIF image")


def without_metadata(data: bytes, header: Header) -> bytes:
    """The image without its metadata, so that damaged metadata cannot keep a decoder from reading the pixels."""
    strip = _STRIP.get(header.format)
    return strip(data) if strip else data


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], Header]], ...] = (
    (b"\xff\xd8\xff", "JPEG", jpeg.read),
    (b"\x89PNG\r\n\x1a\n", "PNG", png.read),
    (b"GIF87a", "GIF", gif.read),
    (b"GIF89a", "GIF", gif.read),
    (b"BM", "BMP", bmp.read),
    (b"RIFF", "WebP", webp.read),
)
_STRIP: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": jpeg.without_metadata,
    "PNG": png.without_metadata,
    "GIF": gif.without_metadata,
}
