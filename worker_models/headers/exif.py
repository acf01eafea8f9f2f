"""The orientation tag of an Exif block."""

from __future__ import annotations

import struct

from worker_models.headers.header import UPRIGHT

_TAG = 0x0112
_MAX_ENTRIES = 1024
_INTEGERS = {1: "B", 3: "H", 4: "I"}
"""Field types a number may have: BYTE, SHORT, LONG."""


def orientation(block: bytes) -> int:
    """The orientation (1 to 8) in a block, with or without its ``Exif`` prefix; upright if it has no valid one."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return UPRIGHT
    try:
        value = _in_first_directory(block, order)
    except struct.error:
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def _in_first_directory(block: bytes, order: str) -> int:
    (directory,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, directory)
    for number in range(min(count, _MAX_ENTRIES)):
        at = directory + 2 + 12 * number
        tag, kind, values = struct.unpack_from(f"{order}HHI", block, at)
        if tag == _TAG:
            readable = values == 1 and kind in _INTEGERS
            return int(struct.unpack_from(f"{order}{_INTEGERS[kind]}", block, at + 8)[0]) if readable else UPRIGHT
    return UPRIGHT
