"""Images for the API's tests, made here so that every byte of a header is known."""

from __future__ import annotations

import struct
import zlib

import pytest


def png(width: int = 2, height: int = 3) -> bytes:
    """A PNG header saying this size, with pixels only for small images."""
    rows = b"".join(b"\0" + b"\x80" * width for _ in range(height)) if width * height < 10_000 else b""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def _chunk(named: tuple[bytes, bytes]) -> bytes:
    name, data = named
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def jpeg(width: int, height: int, *, frame: int = 0xC0, before: bytes = b"") -> bytes:
    """A JPEG's segments up to its only scan, after an APP0 and ``before``."""
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    sof = bytes([0xFF, frame]) + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 63, 0)
    return b"\xff\xd8" + app0 + before + sof + scan


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(3) + b"," + struct.pack("<HHHH", 0, 0, width, height)


def bmp(width: int, height: int, *, core: bool = False) -> bytes:
    if core:
        return b"BM" + bytes(12) + struct.pack("<IHHHH", 12, width, height, 1, 24)
    return b"BM" + bytes(12) + struct.pack("<IiiHH", 40, width, height, 1, 24) + bytes(24)


def webp_lossy(width: int, height: int) -> bytes:
    return _riff(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height))


def webp_lossless(width: int, height: int) -> bytes:
    return _riff(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | (height - 1) << 14))


def webp_extended(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _riff(b"VP8X", bytes(4) + sizes)


def _riff(name: bytes, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBP" + name + struct.pack("<I", len(data)) + data


ANY_SIZE = pytest.mark.parametrize(
    ("name", "make"),
    [
        ("png", png),
        ("jpeg", jpeg),
        ("gif", gif),
        ("bmp", bmp),
        ("webp", webp_lossy),
        ("webp", webp_lossless),
        ("webp", webp_extended),
    ],
    ids=["png", "jpeg", "gif", "bmp", "webp-lossy", "webp-lossless", "webp-extended"],
)
