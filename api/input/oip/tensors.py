"""Inference requests of the Open Inference Protocol, as JSON or with Triton's binary-data extension.

With the extension the body is the JSON object, of ``Inference-Header-Content-Length`` bytes, then the raw bytes of each
input with ``binary_data_size``, in order. A BYTES tensor is a sequence of elements, each after its length as a
little-endian 32-bit number; other tensors are little-endian numbers, row by row.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.http.problems import Problem, wrong_value
from api.input import json_body

LENGTH = 4  # bytes of the length in front of each BYTES element
MAX_LENGTH = 2**31 - 1  # of one dimension
MAX_DEPTH = 8  # of nested JSON lists; no tensor here has more dimensions
_BEHIND = "must be a number of bytes that follow the inference header"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input: ``raw`` is its part of the body, or None when its elements are in ``data``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | None
    data: Any = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A requested output; ``classes`` > 0 is the number of Triton's ``confidence:index:label`` strings."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """An inference request; no ``outputs`` means all of them, ``binary`` if ``binary``."""

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...]
    parameters: Mapping[str, Any]
    binary: bool


def wrong(name: str, detail: str) -> Problem:
    """The problem of one invalid member."""
    return wrong_value(name, detail, f"{name} {detail}.")


def parse(body: bytes, header_length: int | None) -> InferRequest:
    """The request in ``body``; ``header_length`` is the length of its JSON, None for all of it."""
    if not body:
        raise Problem("empty_body", "Send an inference request of the Open Inference Protocol v2.")
    end = len(body) if header_length is None else header_length
    if not 0 < end <= len(body):
        raise wrong("Inference-Header-Content-Length", f"must be from 1 to the length of the body, {len(body)}")
    request = _mapping(json_body.parse(body[:end], "The inference header"), "the request")
    options = _mapping(request.get("parameters"), "parameters")
    binary = _flag(options, "binary_data_output")
    asked = request.get("outputs")
    outputs = tuple(_wanted(item, binary=binary) for item in _list([] if asked is None else asked, "outputs"))
    identity = None if request.get("id") is None else _text(request, "id")
    inputs = tuple(_inputs(_list(request.get("inputs"), "inputs"), body, end))
    if behind := len(body) - end - sum(len(tensor.raw or b"") for tensor in inputs):
        raise wrong("the body", f"has {behind} bytes behind its last input")
    return InferRequest(identity, inputs, outputs, options, binary)


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(name, "must be an object")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong(name, "must be a list")
    return value


def _inputs(items: Sequence[Any], body: bytes, offset: int) -> Iterator[Tensor]:
    for item in items:
        given = _mapping(item, "inputs")
        size = _mapping(given.get("parameters"), "parameters").get("binary_data_size")
        raw = None
        if size is not None:
            if offset + natural(size, "binary_data_size", _BEHIND) > len(body):
                raise wrong("binary_data_size", _BEHIND)
            if "data" in given:
                raise wrong("inputs", "must have data or binary_data_size, not both")
            raw, offset = body[offset : offset + size], offset + size
        yield Tensor(_text(given, "name"), _text(given, "datatype"), _shape(given.get("shape")), raw, given.get("data"))


def _wanted(item: Any, *, binary: bool) -> Wanted:
    given = _mapping(item, "outputs")
    options = _mapping(given.get("parameters"), "parameters")
    classes = natural(options.get("classification"), "classification", "must be a number of classes")
    return Wanted(_text(given, "name"), _flag(options, "binary_data", otherwise=binary), classes)


def _flag(options: Mapping[str, Any], name: str, *, otherwise: bool = False) -> bool:
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, "must be true or false")
    return otherwise if value is None else value


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise wrong(name, "must be a string")
    return value


def natural(value: Any, name: str, complaint: str) -> int:
    """``value`` as a non-negative integer; 0 if missing."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise wrong(name, complaint)
    return value


def _shape(value: Any) -> tuple[int, ...]:
    complaint = f"must be a list of 1 to {MAX_DEPTH} lengths from 0 to {MAX_LENGTH}"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DEPTH or None in value:
        raise wrong("shape", complaint)
    lengths = tuple(natural(length, "shape", complaint) for length in value)
    if max(lengths) > MAX_LENGTH:
        raise wrong("shape", complaint)
    return lengths


def elements(tensor: Tensor) -> list[bytes | str]:
    """The elements of a BYTES tensor, as many as its shape says: bytes from a binary body, strings from JSON."""
    found = list(_flat(tensor.data, tensor.name)) if tensor.raw is None else list(_prefixed(tensor))
    _check_size(tensor, len(found))
    if not all(isinstance(element, (bytes, str)) for element in found):
        raise wrong(tensor.name, "must have strings as elements")
    return found


def _prefixed(tensor: Tensor) -> Iterator[bytes]:
    raw, offset = tensor.raw or b"", 0
    while offset < len(raw):
        begin = offset + LENGTH
        offset = begin + int.from_bytes(raw[offset:begin], "little")
        if begin > len(raw) or offset > len(raw):
            raise wrong(tensor.name, "ends inside an element")
        yield raw[begin:offset]


def _flat(data: Any, name: str, depth: int = 0) -> Iterator[Any]:
    if not isinstance(data, list):
        if depth == 0:
            raise wrong(name, "must have its data as a list")
        if isinstance(data, bool):  # a number to Python
            raise wrong(name, "must not have booleans as elements")
        yield data
        return
    if depth == MAX_DEPTH:
        raise wrong(name, "is nested too deeply")
    for item in data:
        yield from _flat(item, name, depth + 1)


def numbers(tensor: Tensor, code: str) -> array[Any]:
    """The elements of a tensor of numbers as an array of type ``code`` (``B`` bytes, ``f`` 32-bit floats)."""
    found: array[Any] = array(code)
    try:
        if tensor.raw is None:
            found.extend(_flat(tensor.data, tensor.name))
        else:
            found.frombytes(tensor.raw)
    except (TypeError, ValueError, OverflowError):
        raise wrong(tensor.name, f"must be numbers of type {tensor.datatype}") from None
    _check_size(tensor, len(found))
    return found


def _check_size(tensor: Tensor, found: int) -> None:
    if found != math.prod(tensor.shape):
        raise wrong(tensor.name, f"has {found} elements, its shape says {math.prod(tensor.shape)}")
