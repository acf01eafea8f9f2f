"""Documented request bodies of the image routes; tests run their examples as they are printed."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from api.input import intake
from api.input.images import MEDIA_TYPES
from api.views.shapes import Shape, array, integer, nullable, number, string

#: A photo of a cat, 80 pixels wide, as base64.
CAT = b64encode(Path(__file__).with_name("cat.jpg").read_bytes()).decode()

_NAME = {"minLength": 1, "maxLength": 200}
_CUSTOM_ID = {"custom_id": string("Your own name for it, echoed", **_NAME)}
_PARAMETERS: dict[str, Shape] = {
    "model_type": string("A model of /models, or any", default="any", **_NAME),
    "priority": {"enum": ["high", "normal", "low"], "default": "normal"},
    "top_k": integer("Number of classes", minimum=1, maximum=intake.MAX_TOP_K, default=5),
    "deadline": number(
        "Seconds from now after which the answer is not wanted", exclusiveMinimum=0, maximum=intake.MAX_DEADLINE
    ),
}
_CALLBACK = {
    "callback_url": string(
        "Where to post the end of it; needs webhooks to be on", minLength=1, maxLength=intake.MAX_URL
    ),
}
_IDENTITY: dict[str, Shape] = {
    "request_id": string(
        "Your own id; the same id with the same image and parameters is the same request", pattern=intake.ID_PATTERN
    ),
    **_CALLBACK,
}
_DATA = string("The image as base64 or as a data URL", minLength=1)
_FILE = string(contentMediaType="application/octet-stream")


def _object(required: str, image: Shape, properties: dict[str, Shape]) -> Shape:
    return {"type": "object", "required": [required], "properties": {required: image, **properties}}


def _json(required: str, image: Shape, properties: dict[str, Shape]) -> Shape:
    """The same as JSON, where null means not given."""
    return _object(required, image, {name: nullable(shape) for name, shape in properties.items()})


def _form(image: Shape, properties: dict[str, Shape]) -> Shape:
    """The same as a form: an empty field counts as not given, and Swagger UI leaves those without a default empty."""
    shapes = {name: _or_empty(shape) for name, shape in properties.items()}
    return _object("image", image, {n: s if "default" in s else s | {"example": ""} for n, s in shapes.items()})


def _or_empty(shape: Shape) -> Shape:
    looser = {"minLength": 0} if "minLength" in shape else {}
    return shape | looser | ({"pattern": f"^$|{shape['pattern']}"} if "pattern" in shape else {})


def _body(schema: Shape, example: dict[str, Any], form: Shape, **others: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}, "multipart/form-data": {"schema": form}}
    return {"required": True, "content": content | others}


_ITEM = {"anyOf": [_json("data", _DATA, _CUSTOM_ID | _PARAMETERS), {"description": "Anything else fails alone"}]}

INFERENCE_BODY = _body(
    _json("data", _DATA, _CUSTOM_ID | _PARAMETERS | _IDENTITY),
    {"data": CAT, "model_type": "any", "priority": "normal", "top_k": 3},
    _form(_FILE, _CUSTOM_ID | _PARAMETERS | _IDENTITY),
    **{media_type: {"schema": _FILE} for media_type in (*MEDIA_TYPES, "application/octet-stream")},
)
BATCH_BODY = _body(
    _json("requests", array(_ITEM, minItems=1), _PARAMETERS | _CALLBACK),
    {"requests": [{"custom_id": "first", "data": CAT}, {"custom_id": "second", "data": CAT}]},
    _form(array(_FILE, minItems=1), _PARAMETERS | _CALLBACK),
)
