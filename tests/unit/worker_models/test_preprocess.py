from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support import bombs
from tests.unit.worker_models.reference import reference_pixels
from worker_models import preprocess
from worker_models.errors import DecodeTooLarge, ImageTooLarge, InvalidInput, TruncatedImage, UnsupportedImage
from worker_models.limits import Limits
from worker_models.preprocess import HEADROOM, decode, jpeg_scale
from worker_models.registry import Transform

BILINEAR = Transform()
TRANSFORMS = [BILINEAR, Transform(resize=232), Transform(interpolation="bicubic"), Transform(resize=64, crop=64)]
LIMITS = Limits(max_bytes=20_000_000, max_pixels=50_000_000)


def difference(data: bytes, transform: Transform = BILINEAR) -> int:
    """The largest difference from the reference, in steps of 255."""
    ours = decode(data, transform, LIMITS)
    assert (ours.dtype, ours.shape) == (np.uint8, (transform.crop, transform.crop, 3))
    assert ours.flags.c_contiguous
    return int(np.abs(ours.astype(int) - reference_pixels(data, transform)).max())


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
def test_a_photo_decodes_as_the_reference_does(photos, encoded, name: str, transform: Transform):
    assert difference(encoded(photos[name], "PNG"), transform) <= 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 90, "subsampling": 0}),
        ("JPEG", {"quality": 75, "subsampling": 2}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 80}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
    ],
)
def test_each_format_decodes_as_the_reference_does(photos, encoded, kind: str, options: dict):
    assert difference(encoded(photos["chelsea"], kind, **options)) <= 1


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"),
     ("RGBA", "WEBP"), ("1", "BMP"), ("L", "GIF")],
)  # fmt: skip
def test_each_kind_of_pixel_decodes_as_the_reference_does(photos, encoded, mode: str, kind: str):
    assert difference(encoded(photos["coffee"].convert(mode), kind)) <= 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_a_large_cmyk_jpeg_is_decoded_small_too(photos, encoded, options: dict):
    """As small as an RGB one, and as close to the reference."""
    data = encoded(photos["coffee"].resize((2400, 1600)).convert("CMYK"), "JPEG", **options)
    assert jpeg_scale(1600, BILINEAR) == 2
    assert difference(data) <= 24


@pytest.mark.parametrize("size", [(1, 90), (90, 1), (40, 3000), (700, 900)])
@pytest.mark.parametrize(("mode", "kind"), [("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "BMP"), ("P", "GIF")])
def test_only_what_the_network_sees_is_converted(photos, encoded, mode: str, kind: str, size: tuple[int, int]):
    image = photos["rocket"].resize(size)
    image = image.quantize(200) if mode == "P" else image.convert(mode)
    assert difference(encoded(image, kind)) <= 1


def test_the_colours_of_a_palette_with_transparency_are_kept(photos, encoded):
    image = photos["chelsea"].quantize(16)
    opaque = decode(encoded(image, "PNG"), BILINEAR, LIMITS)
    transparent = decode(encoded(image, "PNG", transparency=bytes(range(0, 256, 16))), BILINEAR, LIMITS)
    assert np.array_equal(opaque, transparent)


def test_sixteen_bits_keep_their_upper_eight(photos, encoded):
    gray = np.asarray(photos["camera"].convert("L"))
    deep = Image.fromarray((gray.astype(np.uint16) << 8) + 77)
    eight = decode(encoded(Image.fromarray(gray), "PNG"), BILINEAR, LIMITS)
    assert np.array_equal(decode(encoded(deep, "PNG"), BILINEAR, LIMITS), eight)


def png16(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """An RGB PNG of sixteen bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">3H", *colour) * width
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_sixteen_bit_colour_keeps_its_upper_eight_bits():
    pixels = decode(png16(300, 300, (0x80FF, 0x2000, 0xFFFF)), BILINEAR, LIMITS)
    assert np.array_equal(pixels, np.broadcast_to(np.array([0x80, 0x20, 0xFF], np.uint8), (224, 224, 3)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "size"), [("JPEG", (451, 300)), ("JPEG", (2300, 1500)), ("PNG", (300, 451))])
def test_a_turned_photo_is_set_upright(photos, encoded, orientation: int, kind: str, size: tuple[int, int]):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photos["chelsea"].resize(size), kind, exif=exif.tobytes())
    shrunk = kind == "JPEG" and jpeg_scale(min(size), BILINEAR) > 1
    assert difference(data) <= (24 if shrunk else 2)


@pytest.mark.parametrize("how", bombs.TURNED)
def test_a_photo_turned_in_any_format_is_set_upright(how: str):
    data = bombs.TURNED[how]()
    with Image.open(io.BytesIO(data)) as stored:  # converted without what its metadata say
        upright = bombs.encoded(stored.convert("RGB").transpose(Image.Transpose.ROTATE_270), "PNG")
    assert np.abs(decode(data, BILINEAR, LIMITS).astype(int) - reference_pixels(upright, BILINEAR)).max() <= 2


@pytest.mark.parametrize("what", bombs.ODD_METADATA)
def test_metadata_that_cannot_be_used_are_ignored(what: str):
    data = bombs.ODD_METADATA[what]()
    plain = bombs.png_with() if data.startswith(b"\x89PNG") else bombs.jpeg_with()
    assert np.array_equal(decode(data, BILINEAR, LIMITS), decode(plain, BILINEAR, LIMITS))
    odd = decode_by_pillow(data)
    assert np.array_equal(odd, decode_by_pillow(plain))


def decode_by_pillow(data: bytes) -> np.ndarray:
    """As if libjpeg-turbo had objected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocess, "_decode_jpeg", _object)
        return decode(data, BILINEAR, LIMITS)


def _object(*_: object) -> None:
    raise ValueError("on purpose")


def test_a_damaged_critical_chunk_is_damage():
    data = bombs.encoded(bombs.photo(), "PNG")
    with pytest.raises(TruncatedImage):
        decode(data[:29] + bytes([data[29] ^ 1]) + data[30:], BILINEAR, LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_no_message_shows_an_object_of_python(kind: str):
    data = bombs.encoded(bombs.photo(), kind)
    for end in range(1, len(data), max(1, len(data) // 60)):
        said = refusal(data[:end])
        assert not set("<>@[]{}_") & set(said), said


def refusal(data: bytes) -> str:
    """What is said when this is decoded; empty when it is an image."""
    try:
        decode(data, BILINEAR, LIMITS)
    except InvalidInput as error:
        return str(error)
    return ""


def test_images_wait_for_one_another_when_they_need_much(monkeypatch: pytest.MonkeyPatch):
    """Eight at once, of which two fit: each is decoded, and no more memory is in use than there is."""
    data = bombs.flat_png(2000, 2000, 8, 6)
    limits = Limits(10**7, 10**7, memory=70_000_000)
    most, decode_one = [], preprocess._decode

    def spied(*args):
        most.append(preprocess._memory.used)
        return decode_one(*args)

    monkeypatch.setattr(preprocess, "_decode", spied)
    with ThreadPoolExecutor(8) as pool:
        pixels = list(pool.map(lambda _: decode(data, BILINEAR, limits), range(8)))
    assert [each.shape for each in pixels] == [(224, 224, 3)] * 8
    assert max(most) <= limits.memory
    assert preprocess._memory.used == 0


def test_an_image_that_never_fits_is_refused_in_words():
    with pytest.raises(DecodeTooLarge, match="needs 27 MiB to be decoded; at most 20 MiB are available"):
        decode(bombs.flat_png(2000, 2000, 8, 6), BILINEAR, Limits(10**7, 10**7, memory=20 << 20))


def test_the_first_frame_of_an_animation_is_used(photos, encoded):
    frames = [photos["chelsea"].convert("P"), photos["coffee"].convert("P")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert difference(data) <= 1
    second = reference_pixels(encoded(frames[1], "GIF"), BILINEAR)
    assert np.abs(decode(data, BILINEAR, LIMITS).astype(int) - second).max() > 50


@pytest.mark.parametrize("options", [{}, {"transparency": 5}, {"comment": b"a" * 2000}, {"interlace": 0}], ids=str)
def test_a_first_frame_smaller_than_its_screen_decodes_as_the_reference_does(photos, encoded, options: dict):
    data = bytearray(encoded(photos["chelsea"].quantize(64), "GIF", **options))
    struct.pack_into("<HH", data, 6, 600, 500)
    assert difference(bytes(data)) <= 1


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("PNG", {"default_image": True}), ("WEBP", {"lossless": True})], ids=str
)
def test_an_animation_decodes_as_the_reference_does(photos, encoded, kind: str, options: dict):
    first, second = photos["chelsea"], photos["coffee"].resize(photos["chelsea"].size)
    assert difference(encoded(first, kind, save_all=True, append_images=[second], **options)) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (223, 224), (224, 224), (2000, 30)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_odd_shapes_decode_as_the_reference_does(photos, encoded, size: tuple[int, int], kind: str):
    assert difference(encoded(photos["rocket"].resize(size), kind)) <= 1


DECODE = """
import re, sys
from worker_models.errors import InvalidInput
from worker_models.limits import Limits
from worker_models.preprocess import decode
from worker_models.registry import Transform
try:
    print(decode(sys.stdin.buffer.read(), Transform(), Limits(20_000_000, 50_000_000)).mean(axis=(0, 1)).tolist())
except InvalidInput as error:
    print(error)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def decode_alone(data: bytes) -> tuple[str, int]:
    """Decode in a separate process; its output, and its peak memory in bytes."""
    done = subprocess.run([sys.executable, "-c", DECODE], input=data, capture_output=True, check=True)
    printed, peak = done.stdout.decode().splitlines()
    return printed, int(peak) * 1024


def test_a_sliver_costs_no_memory(encoded):
    """The reference would resize this to 256 x 5,120,000 pixels: five gigabytes."""
    printed, peak = decode_alone(encoded(Image.new("RGB", (20_000, 1), "red"), "PNG"))
    assert printed == "[255.0, 0.0, 0.0]"
    assert peak < 200_000_000


@pytest.mark.parametrize(
    ("short", "scale"),
    [(100, 1), (int(2 * 256 * HEADROOM) - 1, 1), (int(2 * 256 * HEADROOM) + 1, 2), (3024, 4), (6000, 8), (50_000, 8)],
)
def test_large_jpegs_are_decoded_small(short: int, scale: int):
    assert jpeg_scale(short, BILINEAR) == scale


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_image_cut_short_says_so(photos, encoded, kind: str, share: float):
    data = encoded(photos["coffee"], kind)
    with pytest.raises(TruncatedImage):
        decode(data[: int(len(data) * share)], BILINEAR, LIMITS)


def test_a_jpeg_with_bytes_between_its_segments_is_read_all_the_same(photos, encoded):
    """libjpeg-turbo's strict reading refuses these, Pillow reads them, and so do browsers."""
    data = encoded(photos["coffee"], "JPEG")
    second = 2 + 2 + struct.unpack_from(">H", data, 4)[0]
    assert difference(data[:second] + b"\0\0\0" + data[second:]) <= 1


@pytest.mark.parametrize("data", [b"not an image", b"<html></html>", bytes(1000)])
def test_what_is_no_image_is_unsupported(data: bytes):
    with pytest.raises(UnsupportedImage):
        decode(data, BILINEAR, LIMITS)


def test_a_bitmap_without_pixels_is_unsupported(encoded):
    data = bytearray(encoded(Image.new("RGB", (4, 4)), "BMP"))
    struct.pack_into("<i", data, 18, 0)
    with pytest.raises(UnsupportedImage, match="nothing to classify"):
        decode(bytes(data), BILINEAR, LIMITS)


def test_too_many_bytes_are_refused_before_anything_is_read():
    with pytest.raises(ImageTooLarge, match="101 bytes; at most 100"):
        Limits(max_bytes=100, max_pixels=1).check(bytes(101))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_too_many_pixels_are_refused(encoded, kind: str):
    data = encoded(Image.new("RGB", (101, 100)), kind)
    with pytest.raises(ImageTooLarge, match="101 x 100 pixels; at most 10000"):
        decode(data, BILINEAR, Limits(max_bytes=10**9, max_pixels=10_000))
    decode(data, BILINEAR, Limits(max_bytes=10**9, max_pixels=10_100))


def test_a_decompression_bomb_is_refused_without_its_memory(encoded):
    bomb = encoded(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(bomb) < 200_000
    printed, peak = decode_alone(bomb)
    assert printed == "the image is 30000 x 30000 pixels; at most 50000000 are accepted"
    assert peak < 200_000_000


def test_a_gif_whose_frame_is_larger_than_its_screen_is_refused(encoded):
    data = bytearray(encoded(Image.new("P", (10, 10)), "GIF"))
    frame = data.index(b"\x2c", 13 + 3)
    struct.pack_into("<HH", data, frame + 5, 60_000, 60_000)
    with pytest.raises(InvalidInput):
        decode(bytes(data), BILINEAR, LIMITS)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_raise_anything_but_invalid_input(encoded_small, data):
    original = bytearray(data.draw(st.sampled_from(encoded_small)))
    for _ in range(data.draw(st.integers(1, 8))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(original[: data.draw(st.integers(0, len(original)))])
    try:
        pixels = decode(damaged, BILINEAR, Limits(max_bytes=10**6, max_pixels=10**6))
    except InvalidInput:
        return
    assert pixels.shape == (224, 224, 3)


@pytest.fixture(scope="session")
def encoded_small(photos, encoded) -> list[bytes]:
    small = photos["chelsea"].resize((40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = [encoded(small, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    turned = [encoded(small, kind, exif=exif.tobytes()) for kind in ("JPEG", "PNG", "WEBP")]
    return [*plain, *turned, encoded(small.convert("CMYK"), "JPEG"), encoded(small.convert("LA"), "PNG")]


def test_many_threads_decode_at_once(photos, encoded):
    data = [encoded(photos[name], kind) for name in ("chelsea", "coffee") for kind in ("JPEG", "PNG", "WEBP", "GIF")]
    alone = [decode(item, BILINEAR, LIMITS) for item in data]
    start = threading.Barrier(8)

    def work(_: int) -> list[bool]:
        start.wait(10)
        return [np.array_equal(decode(item, BILINEAR, LIMITS), one) for item, one in zip(data, alone, strict=True)]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(same) for same in pool.map(work, range(8)))


def test_the_reference_is_really_different_pixels_for_different_photos(photos, encoded):
    """Guards the comparisons above: the reference does not answer the same for everything."""
    chelsea, coffee = (reference_pixels(encoded(photos[name], "PNG"), BILINEAR) for name in ("chelsea", "coffee"))
    assert np.abs(chelsea.astype(int) - coffee).mean() > 10
