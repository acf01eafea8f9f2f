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
_KINDS = {
    dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a whole number, not negative",
}  # fmt: skip


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
    request = member({"the request": json_body.parse(body[:end], "The inference header")}, "the request", dict)
    options = member(request, "parameters", dict, {})
    binary = member(options, "binary_data_output", bool, False)
    outputs = tuple(_wanted(_item(item, "outputs"), binary) for item in member(request, "outputs", list, []))
    inputs = tuple(_inputs(member(request, "inputs", list), body, end))
    if behind := len(body) - end - sum(len(tensor.raw or b"") for tensor in inputs):
        raise wrong("the body", f"has {behind} bytes behind its last input")
    return InferRequest(member(request, "id", str, None), inputs, outputs, options, binary)


def member(given: Mapping[str, Any], name: str, kind: type, *default: Any) -> Any:
    """The member of this JSON type, integers not negative; the default if it is missing or null.

    Without a default it is required. A boolean is an integer to Python, but not here.
    """
    value = given.get(name)
    if value is None and default:
        return default[0]
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        raise wrong(name, f"must be {_KINDS[kind]}")
    return value


def _item(item: Any, name: str) -> dict[str, Any]:
    return dict(member({name: item}, name, dict))


def _inputs(items: Sequence[Any], body: bytes, offset: int) -> Iterator[Tensor]:
    for item in items:
        given = _item(item, "inputs")
        size = member(member(given, "parameters", dict, {}), "binary_data_size", int, None)
        raw = None
        if size is not None:
            if offset + size > len(body):
                raise wrong("binary_data_size", "must be a number of bytes that follow the inference header")
            if "data" in given:
                raise wrong("inputs", "must have data or binary_data_size, not both")
            raw, offset = body[offset : offset + size], offset + size
        shape = _shape(member(given, "shape", list))
        yield Tensor(member(given, "name", str), member(given, "datatype", str), shape, raw, given.get("data"))


def _wanted(given: Mapping[str, Any], binary: bool) -> Wanted:
    options = member(given, "parameters", dict, {})
    classes = member(options, "classification", int, 0)
    return Wanted(member(given, "name", str), member(options, "binary_data", bool, binary), classes)


def _shape(lengths: Sequence[Any]) -> tuple[int, ...]:
    if not 1 <= len(lengths) <= MAX_DEPTH or not all(type(each) is int and 0 <= each <= MAX_LENGTH for each in lengths):
        raise wrong("shape", f"must be a list of 1 to {MAX_DEPTH} lengths from 0 to {MAX_LENGTH}")
    return tuple(lengths)


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
