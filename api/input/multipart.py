"""Splits a ``multipart/form-data`` body that is already in memory (RFC 7578).

Werkzeug's parser works on a stream and searches it with regular expressions, which costs a multiple of everything else
the API does for a photo. Here the body is bounded by ``MAX_BODY_BYTES`` and read anyway, so finding the boundary with
``bytes.find`` is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from werkzeug.http import parse_options_header

from api.http.problems import HttpProblem

MAX_PARTS = 2000
MAX_HEADER_BYTES = 16_384
MAX_FIELD_BYTES = 65_536  # of a part that is not a file
#: These fields are files, even without a file name.
FILES = frozenset({"image", "images"})


@dataclass(frozen=True, slots=True)
class Part:
    """One part: the field's name, the file's name if it is a file, and the bytes."""

    name: str
    filename: str | None
    data: bytes

    @property
    def is_file(self) -> bool:
        """Whether it is a file rather than a parameter."""
        return self.filename is not None or self.name in FILES


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a body in the order sent."""

    files: tuple[Part, ...]
    fields: tuple[tuple[str, str], ...]

    def values(self) -> dict[str, str]:
        """Field names to values; of equal names the first counts. Empty fields are left out."""
        return {name: value for name, value in reversed(self.fields) if value}


def read(body: bytes, boundary: str) -> Form:
    """The form in ``body``, whose Content-Type names ``boundary``."""
    if not 1 <= len(boundary) <= 200:
        raise malformed("the Content-Type has no boundary")
    if not body:
        raise HttpProblem("empty_body", "The multipart body is empty.")
    parts = tuple(split(body, boundary.encode("latin-1", "replace")))
    return Form(
        tuple(part for part in parts if part.is_file),
        tuple((part.name, _text(part)) for part in parts if not part.is_file),
    )


def malformed(why: str) -> HttpProblem:
    """The problem of a malformed body."""
    return HttpProblem("invalid_multipart", f"The multipart body is malformed: {why}.")


def _text(part: Part) -> str:
    if len(part.data) > MAX_FIELD_BYTES:
        raise malformed(f"the field {part.name} has more than {MAX_FIELD_BYTES} bytes; send images as files")
    try:
        return part.data.decode()
    except UnicodeDecodeError:
        raise malformed(f"the field {part.name} is not UTF-8") from None


def split(body: bytes, boundary: bytes) -> Iterator[Part]:
    """The parts of ``body``, without preamble and epilogue."""
    delimiter = b"\r\n--" + boundary
    end = len(delimiter) - 2 if body.startswith(delimiter[2:]) else _find(body, delimiter, 0)[1]
    for _ in range(MAX_PARTS):
        if body.startswith(b"--", end):
            return
        head, begin = _headers(body, end)
        stop, end = _find(body, delimiter, begin - 2)  # a part without data may end with its headers (RFC 2046)
        yield _part(head, body[begin:stop])
    raise malformed(f"it has more than {MAX_PARTS} parts")


def _find(body: bytes, delimiter: bytes, start: int) -> tuple[int, int]:
    """Start of the next delimiter line and end of the delimiter.

    A line that only begins like the delimiter belongs to the data.
    """
    at = body.find(delimiter, start)
    while at >= 0:
        end = at + len(delimiter)
        if body[end : end + 2] in {b"--", b"\r\n"} or body[end : end + 1] in {b" ", b"\t"}:
            return at, end
        at = body.find(delimiter, end)
    raise malformed("its closing boundary is missing")


def _headers(body: bytes, end: int) -> tuple[bytes, int]:
    """The header lines of the part whose delimiter ends at ``end``, and where its data begins."""
    line = body.find(b"\r\n", end, end + MAX_HEADER_BYTES)
    stop = body.find(b"\r\n\r\n", line, end + MAX_HEADER_BYTES)
    if line < 0 or stop < 0:
        raise malformed("a part has no end of headers")
    return body[line + 2 : stop], stop + 4


def _part(head: bytes, data: bytes) -> Part:
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            kind, options = parse_options_header(value)
            if kind == "form-data" and "name" in options:
                return Part(options["name"], options.get("filename"), data)
    raise malformed("a part has no Content-Disposition: form-data with a name")
