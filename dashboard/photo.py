"""The photo that ships with the dashboard, and as many different copies of it as a load test needs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

MEDIA_TYPE = "image/jpeg"


@lru_cache(maxsize=1)
def cat() -> bytes:
    """The photo: a JPEG."""
    return (Path(__file__).parent / "assets" / "cat.jpg").read_bytes()


def copy(note: str) -> bytes:
    """The same picture in other bytes, so that no cache can answer for a model.

    Args:
        note: goes into a comment segment (JPEG marker FE) right behind the start of the file.
    """
    text = note.encode()
    segment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return cat()[:2] + segment + cat()[2:]
