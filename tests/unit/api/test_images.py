"""What the first bytes of an image say, and what is refused because of it."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from api import images
from api.problems import Problem
from tests.unit.api import samples

Make = Callable[[int, int], bytes]


@samples.ANY_SIZE
def test_size_and_format_come_from_the_header(name: str, make: Make) -> None:
    assert images.sniff(make(640, 481)) == images.ImageHeader(name, 640, 481)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (33, 17), (800, 3)])
def test_it_reads_what_pillow_writes(kind: str, size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, kind)
    header = images.sniff(out.getvalue())
    assert (header.format.upper(), header.width, header.height) == (kind, *size)


def test_progressive_jpeg_and_fill_bytes_are_read() -> None:
    out = io.BytesIO()
    Image.new("L", (50, 60)).save(out, "JPEG", progressive=True)
    assert images.sniff(out.getvalue()).height == 60
    assert images.sniff(samples.jpeg(7, 8, frame=0xC2, before=b"\xff\xff\xff\x01")).width == 7


def test_a_thumbnail_inside_exif_is_not_taken_for_the_image() -> None:
    thumbnail = samples.jpeg(160, 120)
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert images.sniff(samples.jpeg(4000, 3000, before=exif)).width == 4000


def test_bmp_may_be_upside_down_or_os2() -> None:
    assert images.sniff(samples.bmp(5, -9)).height == 9
    assert images.sniff(samples.bmp(5, 9, core=True)) == images.ImageHeader("bmp", 5, 9)


@samples.ANY_SIZE
def test_more_pixels_than_allowed_are_refused_without_decoding(name: str, make: Make) -> None:
    with pytest.raises(Problem) as caught:
        images.check(make(12_000, 11_000), max_bytes=10_000, max_pixels=50_000_000)
    assert (caught.value.code, caught.value.status) == ("too_many_pixels", 422)
    assert images.check(make(5_000, 10_000), max_bytes=10_000, max_pixels=50_000_000).format == name


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_image"),
        (b"hello, this is text", "unsupported_image"),
        (b"BM", "unsupported_image"),
        (b"%PDF-1.7", "unsupported_image"),
        (b"\xff\xd8\xff\xe0", "truncated_image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "truncated_image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rjunk" + bytes(30), "unsupported_image"),
        (b"GIF89a\x01", "truncated_image"),
        (b"RIFF\0\0\0\0WEBP", "truncated_image"),
        (b"RIFF\0\0\0\0WEBPjunk" + bytes(30), "unsupported_image"),
        (samples.png(0, 5), "unsupported_image"),
        (b"\xff\xd8" + b"\xff\x01" * 4500, "unsupported_image"),
        (bytes(10_001), "image_too_large"),
    ],
)
def test_what_cannot_be_an_image_is_refused_with_its_reason(data: bytes, code: str) -> None:
    with pytest.raises(Problem) as caught:
        images.check(data, max_bytes=10_000, max_pixels=1_000_000)
    assert caught.value.code == code


_HEADS = st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\1\2\3\4WEBPVP8 ", b"BM"])


@given(_HEADS, st.binary(max_size=300))
def test_any_bytes_end_in_a_header_or_a_problem(head: bytes, tail: bytes) -> None:
    try:
        header = images.check(head + tail, max_bytes=1000, max_pixels=1_000_000)
    except Problem:
        return  # anything else that is raised fails the test
    assert 0 < header.width * header.height <= 1_000_000
