"""Checks image headers without decoding: refuses in milliseconds what no worker could answer.

This keeps text files and decompression bombs out without Pillow in this process. The parser and the limits are the
workers' own (:mod:`worker_models.headers`, :mod:`worker_models.limits`); the worker that decodes may still refuse.
"""

from __future__ import annotations

from api.http.problems import HttpProblem
from worker_models.errors import ImageTooLarge, InvalidInput
from worker_models.headers import Header, read_header
from worker_models.limits import Limits

MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp")


def check(data: bytes, limits: Limits) -> Header:
    """The header of ``data``; a problem if it is not an image within the limits."""
    try:
        return limits.check(data)
    except InvalidInput as error:
        raise problem(error) from None


def check_bytes(size: int, limits: Limits) -> None:
    """Refuse an image that exceeds the limit in bytes."""
    try:
        limits.check_bytes(size)
    except ImageTooLarge as error:
        raise problem(error) from None


def media_type(data: bytes) -> str:
    """The media type of an image; ``application/octet-stream`` for other data."""
    try:
        return f"image/{read_header(data).format.lower()}"
    except InvalidInput:
        return "application/octet-stream"


def problem(error: InvalidInput) -> HttpProblem:
    """The problem for ``error``."""
    text = str(error)
    return HttpProblem(error.code, f"{text[:1].upper()}{text[1:]}.")
