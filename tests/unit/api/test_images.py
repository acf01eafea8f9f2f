"""What the first bytes of an image say, and what is refused because of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.problems import HttpProblem
from api.input import images
from tests.unit.api import samples
from worker_models.limits import Limits

Make = Callable[[int, int], bytes]


LIMITS = Limits(max_bytes=20_000, max_pixels=50_000_000)


@samples.ANY_SIZE
def test_more_pixels_than_allowed_are_refused_without_decoding(name: str, make: Make) -> None:
    with pytest.raises(HttpProblem) as caught:
        images.check(make(12_000, 11_000), LIMITS)
    assert (caught.value.code, caught.value.status) == ("too_many_pixels", 422)
    assert images.media_type(make(5_000, 10_000)) == f"image/{name}"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_image"),
        (b"hello, this is text", "unsupported_image"),
        (b"BM", "truncated_image"),
        (b"%PDF-1.7", "unsupported_image"),
        (b"\xff\xd8\xff\xe0", "truncated_image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "truncated_image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rjunk" + bytes(30), "unsupported_image"),
        (b"GIF89a\x01", "truncated_image"),
        (b"RIFF\0\0\0\0WEBP", "truncated_image"),
        (b"RIFF\0\0\0\0WEBPjunk" + bytes(30), "unsupported_image"),
        (samples.png(0, 5), "unsupported_image"),
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 4500, "unsupported_image"),
        (bytes(20_001), "image_too_large"),
    ],
)
def test_what_cannot_be_an_image_is_refused_with_its_reason(data: bytes, code: str) -> None:
    with pytest.raises(HttpProblem) as caught:
        images.check(data, LIMITS)
    assert caught.value.code == code


_HEADS = st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\1\2\3\4WEBPVP8 ", b"BM"])


@given(_HEADS, st.binary(max_size=300))
def test_any_bytes_end_in_a_header_or_a_problem(head: bytes, tail: bytes) -> None:
    try:
        header = images.check(head + tail, Limits(1000, 1_000_000))
    except HttpProblem:
        return  # anything else that is raised fails the test
    assert 0 < header.width * header.height <= 1_000_000
