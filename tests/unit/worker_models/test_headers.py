from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from worker_models.errors import InvalidInput, TruncatedImage, UnsupportedImage
from worker_models.headers import Header, read_header

MAGICS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"RIFF....WEBPVP8 ",
    b"RIFF....WEBPVP8L",
    b"RIFF....WEBPVP8X",
)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
    ],
)
def test_the_size_is_read_from_every_format(encoded, kind: str, options: dict):
    header = read_header(encoded(Image.new("RGB", (321, 123), "teal"), kind, **options))
    assert (header.format, header.width, header.height, header.pixels) == (kind, 321, 123, 321 * 123)


def test_a_bitmap_may_be_upside_down(encoded):
    data = bytearray(encoded(Image.new("RGB", (4, 3)), "BMP"))
    struct.pack_into("<i", data, 22, -3)
    assert read_header(bytes(data)) == Header("BMP", 4, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_says_how_many_components_it_has(encoded, mode: str):
    assert read_header(encoded(Image.new(mode, (8, 8)), "JPEG")).components == len(Image.new(mode, (1, 1)).getbands())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("endian", ["<", ">"])
def test_a_jpeg_says_how_it_is_turned(encoded, orientation: int, endian: str):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    assert read_header(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif.tobytes())).orientation == orientation


@pytest.mark.parametrize(
    "block", [b"", b"II", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff\x12\x01"]
)
def test_a_senseless_exif_block_means_upright(encoded, block: bytes):
    data = encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0" + block)
    assert read_header(data).orientation == 1


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7", b"RIFF\0\0\0\0WAVEfmt ", b"<svg/>", b"II*\0"])
def test_what_is_no_known_image_is_unsupported(data: bytes):
    with pytest.raises(UnsupportedImage):
        read_header(data)


@pytest.mark.parametrize("magic", MAGICS)
def test_a_header_cut_short_is_truncated(magic: bytes):
    with pytest.raises(TruncatedImage, match="ends inside its header"):
        read_header(magic)


@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=200))
def test_no_bytes_make_the_parser_raise_anything_else(magic: bytes, rest: bytes):
    try:
        header = read_header(magic + rest)
    except InvalidInput:
        return
    assert header.width >= 0
    assert header.height >= 0
