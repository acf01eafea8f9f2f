"""What the one parser of image headers reads, and that no bytes make it fail or take long."""

from __future__ import annotations

import contextlib
import io
import struct
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support import bombs
from worker_models.errors import EmptyImage, InvalidInput, TruncatedImage, UnsupportedImage
from worker_models.headers import Header, read_header, without_metadata

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
    assert read_header(bytes(data)) == Header("BMP", 4, 3, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_says_how_many_channels_it_has(encoded, mode: str):
    assert read_header(encoded(Image.new(mode, (8, 8)), "JPEG")).channels == len(Image.new(mode, (1, 1)).getbands())


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


@pytest.mark.parametrize("data", [b"hello", b"%PDF-1.7", b"RIFF\0\0\0\0WAVEfmt ", b"<svg/>", b"II*\0"])
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


def test_an_image_without_bytes_is_called_empty():
    with pytest.raises(EmptyImage):
        read_header(b"")


MODES = {
    "JPEG": ["L", "RGB", "CMYK"],
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "GIF": ["L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "WEBP": ["L", "RGB", "RGBA"],
}
OPTIONS = {
    "JPEG": st.fixed_dictionaries({"progressive": st.booleans(), "quality": st.integers(1, 100)}),
    "PNG": st.fixed_dictionaries({"optimize": st.booleans()}),
    "WEBP": st.fixed_dictionaries({"lossless": st.booleans()}),
}
BANDS = {"1": 1, "P": 1, "I;16": 1}


@st.composite
def images(draw: st.DrawFn) -> tuple[str, str, tuple[int, int], bytes]:
    """A format, a mode, a size, and what Pillow writes for them."""
    kind = draw(st.sampled_from(list(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    size = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    options = draw(OPTIONS.get(kind, st.just({})))
    return kind, mode, size, bombs.encoded(Image.new(mode, size), kind, **options)


@given(images())
def test_size_and_depth_are_what_pillow_says(image: tuple[str, str, tuple[int, int], bytes]):
    kind, mode, size, data = image
    header = read_header(data)
    assert (header.format, header.width, header.height, header.orientation) == (kind, *size, 1)
    if (kind, mode) != ("PNG", "P"):  # whose indices have as few bits as its colours need
        assert header.bits == (16 if mode == "I;16" else 1 if (kind, mode) == ("PNG", "1") else 8)
    if kind in {"JPEG", "PNG"}:
        assert header.channels == BANDS.get(mode, len(Image.new(mode, (1, 1)).getbands()))
    with Image.open(io.BytesIO(without_metadata(data, header))) as stripped, Image.open(io.BytesIO(data)) as whole:
        assert stripped.size == whole.size == size
        assert stripped.convert("RGB").tobytes() == whole.convert("RGB").tobytes()


@pytest.fixture(scope="module")
def originals() -> list[bytes]:
    plain = [bombs.encoded(bombs.photo(60, 40), kind) for kind in MODES]
    turned = [make() for make in bombs.TURNED.values()]
    return [*plain, *turned, bombs.many_scans(30, 64), bombs.animated_webp(50, 40), bombs.packed_bitmap(40, 30)]


@given(data=st.data())
def test_damaged_images_end_in_a_header_or_invalid_input(originals: list[bytes], data: st.DataObject):
    damaged = bytearray(data.draw(st.sampled_from(originals)))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, min(400, len(damaged)) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        header = read_header(cut)
    except InvalidInput:
        return
    assert len(without_metadata(cut, header)) <= len(cut) + 8


SIZE = 10_000_000
LONG: dict[str, Callable[[], bytes]] = {
    "fill bytes": lambda: b"\xff\xd8" + b"\xff" * SIZE,
    "stuffed bytes": lambda: b"\xff\xd8" + b"\xff\0" * (SIZE // 2),
    "comments of a JPEG": lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * (SIZE // 4),
    "scans of a JPEG": lambda: bombs.many_scans(SIZE // 12, 8)[:SIZE],
    "one long scan": lambda: (
        bombs.many_scans(12, 8)[:-2] + bytes(range(256)).replace(b"\xff", b"\xff\0") * (SIZE // 257)
    ),
    "chunks of a PNG": lambda: bombs.flat_png(9, 9)[:33] + bombs.chunk(b"tEXt") * (SIZE // 12),
    "comments of a GIF": lambda: b"GIF89a" + struct.pack("<HH", 9, 9) + bytes(3) + b"!\xfe\1a\0" * (SIZE // 5),
    "blocks of a GIF": lambda: b"GIF89a" + struct.pack("<HH", 9, 9) + bytes(3) + b"!\xfe" + b"\1a" * (SIZE // 2),
    "stray bytes of a GIF": lambda: b"GIF89a" + struct.pack("<HH", 9, 9) + bytes(3) + bytes(SIZE),
    "chunks of a WebP": lambda: bombs.animated_webp(9, 9) + b"abcd\0\0\0\0" * (SIZE // 8),
    "entries of an Exif block": lambda: bombs.png_with(
        bombs.chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(SIZE - 100))
    ),
}


@pytest.mark.parametrize("what", LONG)
def test_the_longest_header_is_read_at_once(what: str):
    """In processor time, since others may have the cores; the slowest takes 0.1 s."""
    data = LONG[what]()
    began = time.thread_time()
    with contextlib.suppress(InvalidInput):
        read_header(data)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(("scans", "counted"), [(12, 12), (100, 100), (5000, 1000)])
def test_the_scans_of_a_progressive_jpeg_are_counted(scans: int, counted: int):
    assert read_header(bombs.many_scans(scans)).scans == counted


def test_a_sequential_jpeg_may_come_in_a_scan_for_each_channel(encoded):
    """A decoder goes over all of it for each scan, as often as there are some."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", subsampling=0)
    scan = data.rindex(b"\xff\xda")
    one = bombs.segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + bytes(8)
    header = read_header(data[:scan] + one * 500 + b"\xff\xd9")
    assert (header.scans, header.coefficients) == (500, 64 * 64 * 3 * 2)
    assert (read_header(data).scans, read_header(data).coefficients) == (1, 0)


@pytest.mark.parametrize(("subsampling", "share"), [(0, 3.0), (1, 2.0), (2, 1.5)])
def test_the_coefficients_of_a_progressive_jpeg_depend_on_its_sampling(encoded, subsampling: int, share: float):
    data = encoded(Image.new("RGB", (640, 320)), "JPEG", progressive=True, subsampling=subsampling)
    assert read_header(data).coefficients == 640 * 320 * share * 2


@pytest.mark.parametrize("how", bombs.TURNED)
def test_an_orientation_is_read_alike_in_every_format(how: str):
    assert read_header(bombs.TURNED[how]()).orientation == 6


@pytest.mark.parametrize("what", bombs.ODD_METADATA)
def test_metadata_that_cannot_be_used_mean_upright(what: str):
    assert read_header(bombs.ODD_METADATA[what]()).orientation == 1


def test_a_first_frame_beyond_the_screen_makes_a_gif_larger(encoded):
    data = bytearray(encoded(Image.new("P", (10, 10)), "GIF"))
    struct.pack_into("<HHHH", data, data.index(b"\x2c", 13) + 1, 5, 6, 20, 30)
    header = read_header(bytes(data))
    assert (header.width, header.height) == (25, 36)


def png_of(bits: int, colour: int, *rest: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bombs.chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, colour, *rest))


def jpeg_frame(marker: int, bits: int, components: int, factors: int = 0x11) -> bytes:
    frame = struct.pack(">BHHB", bits, 8, 8, components) + bytes([1, factors, 0]) * components
    return b"\xff\xd8" + bombs.segment(marker, frame)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bombs.deep_jpeg(), "12 bits"),
        (jpeg_frame(0xC3, 8, 3), "lossless"),
        (jpeg_frame(0xC0, 8, 2), "2 colour components"),
        (jpeg_frame(0xC0, 8, 3, 0x10), "sampling factors"),
        (bombs.bitmap_of_fields(0xFF000000, 0xFF0, 0xFF0000), "bitfields"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 8, 8, 1, 24, 5) + bytes(60), "compression 5"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 8, 8, 1, 24, 1) + bytes(60), "compression 1 with 24 bits"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 8, 8, 1, 2, 0) + bytes(60), "2 bits a pixel"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 41, 8, 8, 1, 24, 0) + bytes(60), "header of 41 bytes"),
        (png_of(3, 7, 0, 0, 0), "colour type 7"),
        (png_of(4, 2, 0, 0, 0), "colour type 2 with 4 bits"),
        (png_of(8, 2, 0, 0, 2), "interlaced"),
        (b"\x89PNG\r\n\x1a\n" + bombs.chunk(b"CgBI", bytes(30)), "CgBI"),
    ],
)
def test_a_variant_that_is_not_decoded_is_called_unsupported(data: bytes, said: str):
    with pytest.raises(UnsupportedImage, match=said):
        read_header(data)
