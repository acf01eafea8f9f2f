"""What is refused from its header, in words, and that the memory foreseen is the memory taken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support import bombs
from tests.support.processes import ROOT
from worker_models import limits as module
from worker_models.errors import DecodeTooLarge, InvalidInput, SideTooLong, TooManyPixels, TooManyScans
from worker_models.headers import Header
from worker_models.limits import MIB, Limits, decode_bytes
from worker_models.machine import return_large_buffers
from worker_models.preprocess import decode, jpeg_scale
from worker_models.registry import Transform

LIMITS = Limits(max_bytes=10 * MIB, max_pixels=50_000_000)


@pytest.mark.parametrize("what", bombs.REFUSED)
def test_a_bomb_is_refused_from_its_header(what: str):
    make, code = bombs.REFUSED[what]
    with pytest.raises(InvalidInput) as caught:
        LIMITS.check(make())
    assert caught.value.code == code
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("what", bombs.LARGE)
def test_a_large_image_may_be_decoded(what: str):
    LIMITS.check(bombs.LARGE[what]())


@pytest.mark.parametrize(("pixels", "most"), [(1_000_000, 100), (10_000_000, 100), (20_000_000, 50), (50_000_000, 20)])
def test_a_large_jpeg_may_have_fewer_scans(monkeypatch: pytest.MonkeyPatch, pixels: int, most: int):
    def says(scans: int) -> None:
        header = Header("JPEG", 1000, pixels // 1000, 1, scans=scans)
        monkeypatch.setattr(module, "read_header", lambda _: header)

    says(most)
    LIMITS.check(b"")
    says(most + 1)
    with pytest.raises(TooManyScans, match=f"than the {most} that"):
        LIMITS.check(b"")


def test_each_limit_has_its_own_error():
    data = bombs.flat_png(300, 200)
    for limits, error in [
        (Limits(10**6, 59_999), TooManyPixels),
        (Limits(10**6, 60_000, max_side=299), SideTooLong),
        (Limits(10**6, 60_000, memory=MIB), DecodeTooLarge),
    ]:
        with pytest.raises(error):
            limits.check(data)
    assert Limits(10**6, 60_000, max_side=300).check(data).pixels == 60_000


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 384 * MIB),
        ({"workers_on_host": "2"}, 192 * MIB),
        ({"decode_memory": str(100 * MIB)}, 100 * MIB),
        ({"decode_memory": str(900 * MIB)}, 384 * MIB),
    ],
)
def test_a_worker_takes_no_more_than_its_share_of_the_memory(settings_with, monkeypatch, variables, expected: int):
    monkeypatch.setattr(module, "memory_bytes", lambda: 1024 * MIB)
    assert Limits.of_worker(settings_with(**variables)).memory == expected


def test_the_api_refuses_by_the_setting_wherever_it_runs(settings_with, monkeypatch):
    monkeypatch.setattr(module, "memory_bytes", lambda: MIB)
    assert Limits.of(settings_with()) == LIMITS


#: Kinds of images, each with so many pixels that a decoder's own buffers do not count.
KINDS = {
    **{f"PNG {bits} bits colour {colour}": lambda b=bits, c=colour: bombs.flat_png(4000, 4000, b, c)
       for bits, colour in [(1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (4, 3), (8, 4), (16, 4), (8, 6), (16, 6)]},
    "PNG interlaced": lambda: bombs.flat_png(4000, 4000, 8, 2, 1),
    "PNG strip": lambda: bombs.flat_png(65_000, 700, 8, 6),
    "GIF": lambda: bombs.flat_gif(4000, 4000),
    "WebP": lambda: bombs.flat_webp(3000, 3000),
    "WebP animated": lambda: bombs.animated_webp(3000, 3000),
    "BMP 24": lambda: bombs.encoded(Image.new("RGB", (1800, 1800)), "BMP"),
    "BMP 32": lambda: bombs.encoded(Image.new("RGBA", (1500, 1500)), "BMP"),
    "BMP packed": lambda: bombs.packed_bitmap(2000, 2000),
    "BMP packed nibbles": lambda: bombs.packed_bitmap(2000, 2000, nibbles=True),
    "JPEG": lambda: bombs.encoded(Image.new("RGB", (1400, 16_000)), "JPEG"),
    "JPEG square": lambda: bombs.encoded(Image.new("RGB", (1450, 1450)), "JPEG"),
    "JPEG gray": lambda: bombs.encoded(Image.new("L", (1400, 16_000)), "JPEG"),
    "JPEG CMYK": lambda: bombs.encoded(Image.new("CMYK", (1400, 8000)), "JPEG"),
    "JPEG progressive": lambda: bombs.encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True),
    "JPEG progressive 4:4:4": lambda: bombs.encoded(
        Image.new("RGB", (4000, 4000)), "JPEG", progressive=True, subsampling=0
    ),
    "JPEG progressive CMYK": lambda: bombs.encoded(Image.new("CMYK", (3000, 3000)), "JPEG", progressive=True),
}  # fmt: skip


def measure() -> None:
    """Decode each kind; print what it took and what was foreseen. Run in a separate process."""
    return_large_buffers()
    found = {}
    for kind, make in KINDS.items():
        data = make()
        header = LIMITS.check(data)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        decode(data, Transform(), LIMITS)
        scale = jpeg_scale(min(header.width, header.height), Transform())
        found[kind] = _status("VmHWM") - before, decode_bytes(header, scale) + len(data)
    sys.stdout.write(json.dumps(found))


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_decoding_takes_no_more_memory_than_foreseen_and_not_much_less():
    command = [sys.executable, "-c", f"from {__name__} import measure; measure()"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200, cwd=ROOT)
    for kind, (taken, foreseen) in json.loads(done.stdout).items():
        assert taken <= foreseen, kind
        # A small image may be decoded in memory that the allocator has kept from the one before.
        assert foreseen <= 1.7 * taken + 32 * MIB, kind
