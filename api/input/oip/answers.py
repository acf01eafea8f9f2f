"""Inference answers of the Open Inference Protocol, as JSON or followed by binary data."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.input.oip.tensors import InferRequest, Wanted, wrong

Rows = Sequence[Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Output:
    """An output of every model: its type, and its value in a prediction."""

    datatype: str
    value: Callable[[Mapping[str, Any]], Any]


OUTPUTS: Mapping[str, Output] = {
    "label": Output("BYTES", lambda prediction: str(prediction["class"])),
    "index": Output("INT64", lambda prediction: int(prediction["index"])),
    "confidence": Output("FP32", lambda prediction: float(prediction["confidence"])),
}
_FORMATS = {"INT64": "<q", "FP32": "<f"}


def check(request: InferRequest) -> None:
    """Refuse outputs that do not exist, before anything is submitted."""
    for wanted in request.outputs:
        if wanted.name not in OUTPUTS:
            raise wrong("outputs", f"has {wanted.name!r}; there are {', '.join(OUTPUTS)}")


def answer(request: InferRequest, head: Mapping[str, Any], rows: Rows) -> tuple[bytes, int | None]:
    """The body, and the end of its JSON if binary data follows.

    Args:
        request: with the wanted outputs and their form.
        head: further members of the answer, such as ``model_name``.
        rows: per image the predictions, best first; all of one length.
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
    output = OUTPUTS[wanted.name]
    if wanted.classes:
        output = Output("BYTES", lambda found: f"{found['confidence']:f}:{found['index']}:{found['class']}")
        rows = [row[: wanted.classes] for row in rows]
    values = [output.value(prediction) for row in rows for prediction in row]
    members: dict[str, Any] = {
        "name": wanted.name,
        "datatype": output.datatype,
        "shape": [len(rows), len(rows[0]) if rows else 0],
    }
    if not wanted.binary:
        return members | {"data": values}, b""
    raw = b"".join(_raw(value, output.datatype) for value in values)
    return members | {"parameters": {"binary_data_size": len(raw)}}, raw


def _raw(value: Any, datatype: str) -> bytes:
    if datatype == "BYTES":
        text = value.encode()
        return struct.pack("<I", len(text)) + bytes(text)
    return struct.pack(_FORMATS[datatype], value)
