"""Images that are small as files and large, slow, damaged or odd to decode, made byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache

from PIL import Image

SHORT, LONG = 3, 4


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file's bytes."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@cache
def photo(width: int = 320, height: int = 240) -> Image.Image:
    """A picture with something in every corner, so that a turned one differs."""
    across = Image.linear_gradient("L").resize((width, height))
    down = Image.linear_gradient("L").rotate(90).resize((width, height))
    return Image.merge("RGB", (across, down, Image.radial_gradient("L").resize((width, height))))


# -- PNG


def chunk(kind: bytes, data: bytes = b"", *, intact: bool = True) -> bytes:
    """A PNG chunk; its checksum is wrong unless it is ``intact``."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ (not intact))


#: Where the passes of an interlaced PNG begin and how far their pixels are apart, across and down.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def flat_png(width: int, height: int, bits: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """A PNG whose samples are all zero."""
    depth = bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    size = 0
    for left, top, across, down in PASSES if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        size += rows * (1 + -(-columns * depth // 8)) if columns > 0 else 0
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(range(48))) if colour == 3 else b""
    body = chunk(b"IHDR", header) + palette + chunk(b"IDAT", _deflated_zeros(size)) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + body


def _deflated_zeros(size: int) -> bytes:
    """So many zeros, deflated: blocks that end on a byte may be repeated."""
    block = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    repeated = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = rest.compress(bytes(size % block)) + rest.flush()
    checksum = (size % 65521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + repeated * (size // block) + tail + struct.pack(">I", checksum)


def png_with(*chunks: bytes) -> bytes:
    """The photo as a PNG with these chunks before its pixels."""
    data = encoded(photo(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


# -- JPEG


def many_scans(scans: int, side: int = 512) -> bytes:
    """A progressive JPEG whose last scan is repeated up to so many scans."""
    data = encoded(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (scans - data.count(b"\xff\xda") + 1) + data[-2:]


def deep_jpeg() -> bytes:
    """A JPEG that says it has 12 bits a sample."""
    data = bytearray(encoded(photo(), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def jpeg_with(*segments: bytes) -> bytes:
    """The photo as a JPEG with these segments first."""
    data = encoded(photo(), "JPEG", quality=95)
    return data[:2] + b"".join(segments) + data[2:]


def exif(orientation: int, kind: int = SHORT, order: str = "<", count: int = 1) -> bytes:
    """An Exif block that says an orientation."""
    value = struct.pack(f"{order}{'H2x' if kind == SHORT else 'I'}", orientation)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHI", 0x0112, kind, count) + value
    return b"Exif\0\0" + magic + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def xmp(orientation: int) -> bytes:
    """XMP that says an orientation."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        f'tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>'
    ).encode()


# -- WebP, GIF and BMP


def flat_webp(width: int, height: int) -> bytes:
    """A lossless WebP of one colour, which has no bit for a pixel."""
    data = bytearray(encoded(Image.new("RGB", (1, 1), "teal"), "WEBP", lossless=True))
    (bits,) = struct.unpack_from("<I", data, 21)
    struct.pack_into("<I", data, 21, bits & 0xF0000000 | (height - 1) << 14 | (width - 1))
    return bytes(data)


def animated_webp(width: int, height: int) -> bytes:
    """Two frames of a pixel on a huge canvas."""
    still = flat_webp(1, 1)[12:]
    frame = bytes(6) + bytes(6) + (100).to_bytes(3, "little") + b"\0" + still
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = (("VP8X", b"\x02\0\0\0" + sizes), ("ANIM", bytes(6)), ("ANMF", frame), ("ANMF", frame))
    body = b"WEBP" + b"".join(name.encode() + struct.pack("<I", len(data)) + data for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bitmap_of_fields(*masks: int) -> bytes:
    """A bitmap of 32 bits a pixel whose colours have these bits."""
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 32, 3, 256, 0, 0, 0, 0) + struct.pack("<III", *masks)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + 256, 0, 0, 14 + len(header)) + header + bytes(range(256))


def packed_bitmap(width: int, height: int, *, nibbles: bool = False) -> bytes:
    """A run-length encoded bitmap of one colour."""
    runs = (bytes([255, 7]) * (width // 255) + bytes([width % 255, 7]) + b"\0\0") * height + b"\0\1"
    bits, compression = (4, 2) if nibbles else (8, 1)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(runs), 0, 0, 16, 0)
    palette = bytes(range(64))
    at = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", at + len(runs), 0, 0, at) + header + palette + runs


def flat_gif(width: int, height: int) -> bytes:
    """A GIF of one colour."""
    return encoded(Image.new("P", (width, height)), "GIF")


#: What must be refused from its header, with the code of the refusal.
REFUSED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "a progressive JPEG of thousands of scans": (lambda: many_scans(3000), "too_many_scans"),
    "a PNG of one column": (lambda: flat_png(1, 50_000_000), "side_too_long"),
    "a PNG of one row": (lambda: flat_png(50_000_000, 1), "side_too_long"),
    "a lossless WebP of 7000 x 7000": (lambda: flat_webp(7000, 7000), "decode_too_large"),
    "an animated WebP with a huge canvas": (lambda: animated_webp(7000, 7000), "decode_too_large"),
    "a JPEG of 12 bits": (deep_jpeg, "unsupported_image"),
    "a bitmap of odd bit fields": (lambda: bitmap_of_fields(0xFF000000, 0xFF0, 0xFF0000), "unsupported_image"),
    "a run-length encoded bitmap": (lambda: packed_bitmap(6000, 8000), "too_many_pixels"),
}
#: What is large but may be decoded.
LARGE: Mapping[str, Callable[[], bytes]] = {
    "a gray PNG of 49 megapixels and 16 bits": lambda: flat_png(7000, 7000, 16, 0),
    "an RGBA PNG of 49 megapixels and 16 bits": lambda: flat_png(7000, 7000, 16, 6),
    "a gray PNG with alpha of 49 megapixels": lambda: flat_png(7000, 7000, 8, 4),
    "a palette PNG of 49 megapixels": lambda: flat_png(7000, 7000, 8, 3),
    "an interlaced RGB PNG of 49 megapixels": lambda: flat_png(7000, 7000, 8, 2, 1),
    "a bilevel PNG of 49 megapixels": lambda: flat_png(7000, 7000, 1, 0),
    "a lossless WebP of 16 megapixels": lambda: flat_webp(4000, 4000),
    "an animated WebP on 16 megapixels": lambda: animated_webp(4000, 4000),
    "a GIF of 49 megapixels": lambda: flat_gif(7000, 7000),
    "a JPEG of as many scans as may be": lambda: many_scans(100),
}
#: The photo with metadata that cannot be used: its pixels are perfect.
ODD_METADATA: Mapping[str, Callable[[], bytes]] = {
    "a long zTXt": lambda: png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000)))),
    "a long iTXt": lambda: png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(2_000_000)))),
    "a long iCCP": lambda: png_with(chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_500_000)))),
    "an iCCP that is not compressed": lambda: png_with(chunk(b"iCCP", b"profile\0\0" + bytes(40))),
    "a tEXt with a bad checksum": lambda: png_with(chunk(b"tEXt", b"a\0b", intact=False)),
    "a pHYs with a bad checksum": lambda: png_with(chunk(b"pHYs", bytes(9), intact=False)),
    "a pHYs cut short": lambda: png_with(chunk(b"pHYs", b"\0")),
    "an eXIf with a bad checksum": lambda: png_with(chunk(b"eXIf", exif(6)[6:], intact=False)),
    "an eXIf of noise": lambda: png_with(chunk(b"eXIf", b"II*\0\xff\xff\xff\x7f")),
    "a tRNS that is too long": lambda: png_with(chunk(b"tRNS", bytes(5))),
    "an acTL cut short": lambda: png_with(chunk(b"acTL", bytes(3))),
    "PNG XMP alone": lambda: png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))),
    "an Exif of noise": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(range(200)))),
    "an Exif with two values": lambda: jpeg_with(segment(0xE1, exif(6, count=2))),
    "an Exif with orientation 9": lambda: jpeg_with(segment(0xE1, exif(9))),
    "JPEG XMP alone": lambda: jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))),
    "an index of pictures (MPF) that is damaged": lambda: jpeg_with(segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff")),
    "Photoshop data that is damaged": lambda: jpeg_with(segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0")),
}
#: The photo turned by orientation 6 in every way that counts.
TURNED: Mapping[str, Callable[[], bytes]] = {
    "a SHORT in a JPEG": lambda: jpeg_with(segment(0xE1, exif(6))),
    "a LONG in a JPEG": lambda: jpeg_with(segment(0xE1, exif(6, LONG))),
    "a LONG of a big-endian JPEG": lambda: jpeg_with(segment(0xE1, exif(6, LONG, ">"))),
    "the first of two Exif blocks": lambda: jpeg_with(segment(0xE1, exif(6)), segment(0xE1, exif(1))),
    "a SHORT in a PNG": lambda: png_with(chunk(b"eXIf", exif(6)[6:])),
    "a LONG in a PNG": lambda: png_with(chunk(b"eXIf", exif(6, LONG)[6:])),
    "the first of two eXIf chunks": lambda: png_with(chunk(b"eXIf", exif(6)[6:]), chunk(b"eXIf", exif(3)[6:])),
    "an eXIf with its mark": lambda: png_with(chunk(b"eXIf", exif(6))),
    "an eXIf beside XMP": lambda: png_with(
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(3)), chunk(b"eXIf", exif(6))
    ),
    "a LONG in a WebP": lambda: encoded(photo(), "WEBP", lossless=True, exif=exif(6, LONG)),
}
