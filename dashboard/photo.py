"""The photo that ships with the dashboard, and different copies of it for load tests and drills."""

from __future__ import annotations

from pathlib import Path

CAT = (Path(__file__).parent / "assets" / "cat.jpg").read_bytes()
MEDIA_TYPE = "image/jpeg"


def copy(note: str) -> bytes:
    """The same picture in other bytes, so that no cache can answer for a model.

    Args:
        note: goes into a comment segment (JPEG marker FE) right behind the start of the file.
    """
    text = note.encode()
    segment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return CAT[:2] + segment + CAT[2:]
