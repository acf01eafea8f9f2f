"""Open Inference Protocol v2 (KServe, Triton) as bytes and tensors; :mod:`api.routes.v2` serves it.

With Triton's binary-data extension a body is the JSON object, of ``Inference-Header-Content-Length`` bytes, then the
raw bytes of each input with ``binary_data_size``, in order. A BYTES tensor is a sequence of elements, each after its
length as a little-endian 32-bit number; other tensors are little-endian numbers, row by row. Tensors of pixels become
image files, so that the queue carries them like any image. Nothing here knows Flask or the queue.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.http.problems import HttpProblem, wrong_value
from api.input import json_body
from worker_models.limits import Limits

Rows = Sequence[Sequence[Mapping[str, Any]]]

LENGTH = 4  # bytes of the length in front of each BYTES element
MAX_LENGTH = 2**31 - 1  # of one dimension
MAX_DEPTH = 8  # of nested JSON lists; no tensor here has more dimensions
_KINDS = {
    dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a whole number, not negative",
}  # fmt: skip
#: Floats are converted one by one, so their images are bounded: 0.2 s of one core.
MAX_FLOAT_PIXELS = 640 * 640
#: Output of every model -> its type, and its member of a prediction.
OUTPUTS: Mapping[str, tuple[str, str]] = {
    "label": ("BYTES", "class"),
    "index": ("INT64", "index"),
    "confidence": ("FP32", "confidence"),
}
_FORMATS = {"INT64": "<q", "FP32": "<f"}


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


def wrong(name: str, detail: str) -> HttpProblem:
    """The problem of one invalid member."""
    return wrong_value(name, detail, f"{name} {detail}.")


def parse(body: bytes, header_length: int | None) -> InferRequest:
    """The request in ``body``; ``header_length`` is the length of its JSON, None for all of it."""
    if not body:
        raise HttpProblem("empty_body", "Send an inference request of the Open Inference Protocol v2.")
    end = len(body) if header_length is None else header_length
    if not 0 < end <= len(body):
        raise wrong("Inference-Header-Content-Length", f"must be from 1 to the length of the body, {len(body)}")
    request = member({"the request": json_body.parse(body[:end], "The inference header")}, "the request", dict)
    options = member(request, "parameters", dict, {})
    binary = member(options, "binary_data_output", bool, False)
    outputs = tuple(_wanted(item, binary) for item in member(request, "outputs", list, []))
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


def _inputs(items: Sequence[Any], body: bytes, offset: int) -> Iterator[Tensor]:
    for item in items:
        given = member({"inputs": item}, "inputs", dict)
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


def _wanted(item: Any, binary: bool) -> Wanted:
    given = member({"outputs": item}, "outputs", dict)
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


def pixel_images(tensor: Tensor, limits: Limits) -> Iterator[bytes]:
    """One PNG per image of a tensor of shape ``(n, height, width, 3)``, RGB.

    UINT8 is 0 to 255, FP32 is 0.0 to 1.0 and is rounded to 8 bits. FP32 outside of that is refused: it is another scale
    (0 to 255, or normalized), and its answer would be silently wrong.
    """
    if len(tensor.shape) != 4 or tensor.shape[3] != 3 or 0 in tensor.shape:
        raise wrong(tensor.name, "must have the shape (images, height, width, 3)")
    _, height, width, _ = tensor.shape
    limit = min(limits.max_pixels, MAX_FLOAT_PIXELS) if tensor.datatype == "FP32" else limits.max_pixels
    if height * width > limit:
        raise wrong(tensor.name, f"has {height} x {width} pixels, more than {limit}")
    if max(height, width) > limits.max_side:
        raise wrong(tensor.name, f"has {height} x {width} pixels; a side may have at most {limits.max_side}")
    data = _bytes(tensor)
    size = height * width * 3
    return (png(width, height, data[at : at + size]) for at in range(0, len(data), size))


def _bytes(tensor: Tensor) -> bytes:
    if tensor.datatype == "UINT8":
        return numbers(tensor, "B").tobytes()
    if tensor.datatype != "FP32":
        raise wrong(tensor.name, "must be UINT8 or FP32")
    values = numbers(tensor, "f")
    if not all(0.0 <= value <= 1.0 for value in values):  # false for NaN
        raise wrong(tensor.name, "must have numbers from 0.0 to 1.0 as FP32")
    return bytes([int(value * 255 + 0.5) for value in values])


def png(width: int, height: int, rgb: bytes) -> bytes:
    """A PNG of 8-bit RGB rows; hardly compressed, because it is short-lived."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(_rows(width, height, rgb), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _rows(width: int, height: int, rgb: bytes) -> bytearray:
    """Each row after its filter byte (none); copied by columns where there are fewer of those."""
    row = width * 3
    rows = bytearray(height * (row + 1))
    if row < height:
        for column in range(row):
            rows[column + 1 :: row + 1] = rgb[column::row]
    else:
        for line in range(height):
            rows[line * (row + 1) + 1 : (line + 1) * (row + 1)] = rgb[line * row : (line + 1) * row]
    return rows


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def check_outputs(request: InferRequest) -> None:
    """Refuse outputs that do not exist, before anything is submitted."""
    for wanted in request.outputs:
        if wanted.name not in OUTPUTS:
            raise wrong("outputs", f"has {wanted.name!r}; there are {', '.join(OUTPUTS)}")


def answer(request: InferRequest, head: Mapping[str, Any], rows: Rows) -> tuple[bytes, int | None]:
    """The body, and the end of its JSON if binary data follows.

    ``head`` are further members, such as ``model_name``; ``rows`` has per image the predictions, best first, all of one
    length.
    """
    outputs, tail = [], []
    for wanted in request.outputs or tuple(Wanted(name, request.binary) for name in OUTPUTS):
        members, raw = _output(wanted, rows)
        outputs.append(members)
        tail.append(raw)
    text = json.dumps({**head, "outputs": outputs}, separators=(",", ":"), allow_nan=False).encode()
    if not any(wanted.binary for wanted in request.outputs) and not (request.binary and not request.outputs):
        return text, None
    return text + b"".join(tail), len(text)


def _output(wanted: Wanted, rows: Rows) -> tuple[dict[str, Any], bytes]:
    datatype, name = OUTPUTS[wanted.name]
    if wanted.classes:
        datatype, rows = "BYTES", [row[: wanted.classes] for row in rows]
    values = [
        f"{found['confidence']:f}:{found['index']}:{found['class']}" if wanted.classes else found[name]
        for row in rows
        for found in row
    ]
    members = {"name": wanted.name, "datatype": datatype, "shape": [len(rows), len(rows[0]) if rows else 0]}
    if not wanted.binary:
        return members | {"data": values}, b""
    raw = b"".join(_raw(value, datatype) for value in values)
    return members | {"parameters": {"binary_data_size": len(raw)}}, raw


def _raw(value: Any, datatype: str) -> bytes:
    if datatype == "BYTES":
        text = value.encode()
        return struct.pack("<I", len(text)) + bytes(text)
    return struct.pack(_FORMATS[datatype], value)
