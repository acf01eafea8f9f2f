"""Turns the body of ``POST /inference`` into a Submission: JSON with base64, multipart, or the raw image.

Parsed by hand, because a schema library would copy and walk a body of many megabytes; :data:`FIELDS` has the rules,
also for the OpenAPI document. Nothing here touches Redis.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Request, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.http.ownership import key_id, unquoted
from api.http.problems import HttpProblem, wrong_value
from api.input import images, json_body, multipart
from api.services import app_settings
from tasks.lanes import ANY, PRIORITIES
from tasks.producer.gateway import Submission
from worker_models.limits import Limits

ACCEPT_POST = ", ".join(("application/json", "multipart/form-data", *images.MEDIA_TYPES, "application/octet-stream"))
MAX_TOP_K = 1000
MAX_URL = 2000
MAX_SAID = 100  # characters of a member in the audit log
MAX_DEADLINE = 86_400.0  # seconds
#: A URL path cannot carry ``.`` and ``..``: clients and proxies resolve them.
ID_PATTERN = r"^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$"
_ID = re.compile(ID_PATTERN)
_SPACE = re.compile(r"\s+")


def _text(value: Any, most: int = 200, what: str = "a string of 1 to 200 characters") -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise ValueError(f"must be {what}")
    return value


def _url(value: Any) -> str:
    return _text(value, MAX_URL, f"a URL of at most {MAX_URL} characters")


def _priority(value: Any) -> str:
    if value not in PRIORITIES:
        raise ValueError("must be one of " + ", ".join(PRIORITIES))
    return str(value)


def _identifier(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("must be 1 to 128 of A-Z a-z 0-9 . _ ~ -, and neither . nor ..")
    return value


def _top_k(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_TOP_K:
        raise ValueError(f"must be an integer from 1 to {MAX_TOP_K}")
    return value


def _deadline(value: Any) -> float:
    with suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, bool) and 0 < (seconds := float(value)) <= MAX_DEADLINE:
            return seconds
    raise ValueError(f"must be a number of seconds above 0 and at most {MAX_DEADLINE:.0f}")


#: The check of each parameter, in any kind of body or query.
FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "model_type": _text,
    "priority": _priority,
    "request_id": _identifier,
    "deadline": _deadline,
    "top_k": _top_k,
    "callback_url": _url,
    "custom_id": _text,
}
#: The parameters that change the answer, and their defaults.
DECISIVE: Mapping[str, Any] = {
    name: Submission.__dataclass_fields__[name].default for name in ("model_type", "priority", "top_k")
}


@dataclass(frozen=True, slots=True)
class Draft:
    """An image with its validated parameters."""

    image: bytes
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """The identity of a request: the image and the parameters that change the answer.

        An explicit default equals an omitted one.
        """
        given = ((self.parameters.get(name), default) for name, default in DECISIVE.items())
        said = [None if value == default else value for value, default in given]
        return hashlib.sha256(json.dumps(said).encode() + b"\0" + self.image).hexdigest()

    def submission(self, **more: Any) -> Submission:
        """The Submission; ``more`` overrides the caller's values. It has a fingerprint if it has an id."""
        members = {"model_type": ANY, "owner": g.owner, **self.parameters, **more}
        if members.get("request_id"):
            members["fingerprint"] = self.fingerprint()
        return Submission(image=self.image, **members)


def read(request: Request, limits: Limits) -> Draft:
    """The image in ``request`` with its parameters; the body overrides the query."""
    kind, asked = request.mimetype, parameters(request.args.to_dict())  # a MultiDict raises for each name it lacks
    if kind == "application/json":
        return from_json(load_json(request), limits, asked)
    if kind == "multipart/form-data":
        return _from_form(request, limits, asked)
    if kind.startswith("image/") or kind == "application/octet-stream":
        image = body(request)
        if not image:
            raise HttpProblem("empty_body", "Send the bytes of an image as the body.")
        return draft(image, asked, limits)
    raise unsupported_media_type(request)


def idempotency_key() -> str:
    """An id made from the ``Idempotency-Key`` header, empty without one."""
    header = request.headers.get("Idempotency-Key", "")
    if len(unquoted(header)) > 255:
        raise wrong_value("Idempotency-Key", "must have at most 255 characters", "The Idempotency-Key is too long.")
    return key_id(header, g.key_name)


def unsupported_media_type(request: Request, accept: str = ACCEPT_POST) -> HttpProblem:
    """415 with the accepted types, or ``empty_body`` for an empty one without a type."""
    if not request.mimetype and not request.content_length:
        return HttpProblem("empty_body", "Send an image: JSON with base64, multipart/form-data, or the raw bytes.")
    said = request.mimetype or "no Content-Type"
    return HttpProblem("unsupported_media_type", f"Cannot read {said}.", headers={"Accept-Post": accept})


def body(request: Request) -> bytes:
    """The whole body, without Werkzeug's four copies; one that is too large is refused even if it is chunked.

    So is a compressed one: it would evade the size limits.
    """
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        detail = f"The body is encoded as {coding[:40]}; send it as it is."
        raise HttpProblem("unsupported_media_type", detail, headers={"Accept-Encoding": "identity"})
    limit = app_settings().max_body_bytes
    if (request.content_length or 0) > limit:
        raise RequestEntityTooLarge
    data: bytes = request.environ["wsgi.input"].read(limit + 1)
    if len(data) > limit:
        raise HttpProblem("body_too_large", f"The body has more than {limit} bytes.")
    return data


def load_json(request: Request) -> dict[str, Any]:
    """The JSON object in the body."""
    raw = body(request)
    if not raw:
        raise HttpProblem("empty_body", "Send a JSON object as the body.")
    parsed = json_body.parse(raw)
    if not isinstance(parsed, dict):
        raise HttpProblem("invalid_parameters", "The JSON must be an object.")
    return parsed


def order_body(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object in the body of an order; its declared members go into the audit log."""
    if request.mimetype != "application/json":
        raise HttpProblem("unsupported_media_type", "Send JSON.", headers={"Accept-Post": "application/json"})
    given = load_json(request)
    members = declared["content"]["application/json"]["schema"]["properties"]
    said = {name: given[name] for name in members if isinstance(given.get(name, ()), str | int | float | None)}
    g.body = {name: value for name, value in said.items() if len(str(value)) <= MAX_SAID}
    return given


def from_json(given: Any, limits: Limits, defaults: Mapping[str, Any] | None = None) -> Draft:
    """One request given as a JSON object with ``data`` (base64 or a data URL).

    Omitted members come from the checked ``defaults``.
    """
    if not isinstance(given, Mapping):
        raise HttpProblem("invalid_parameters", "A request must be a JSON object.")
    checked = {**(defaults or {}), **parameters(given)}
    return draft(decode_base64(given.get("data"), limits), checked, limits)


def draft(image: bytes, checked: Mapping[str, Any], limits: Limits) -> Draft:
    """The draft of an image with a checked header."""
    images.check(image, limits)
    return Draft(image, checked)


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The known parameters in ``given``, checked; unknown names are ignored, null means not given."""
    found: dict[str, Any] = {}
    errors = []
    for name, check in FIELDS.items():
        value = given.get(name)
        if value is None:
            continue
        try:
            found[name] = check(value)
        except ValueError as error:
            errors.append({"name": name, "detail": str(error)})
    if errors:
        names = ", ".join(error["name"] for error in errors)
        raise HttpProblem("invalid_parameters", f"Wrong value for {names}.", errors=errors)
    return found


def decode_base64(data: Any, limits: Limits) -> bytes:
    """The bytes of a base64 string or data URL; white space is allowed, other characters are not."""
    if not isinstance(data, str):
        raise wrong_value("data", "is missing" if data is None else "must be a string", "Send the image in data.")
    if data[:5].lower() == "data:":
        data = _data_url_payload(data)
    if len(data) * 3 // 4 > limits.max_bytes * 1.1 + 1024:  # room for line breaks; the exact check follows
        images.check_bytes(len(data) * 3 // 4, limits)
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        return _decode_wrapped(data)


def _decode_wrapped(data: str) -> bytes:
    try:
        return binascii.a2b_base64(_SPACE.sub("", data), strict_mode=True)
    except ValueError as error:
        raise HttpProblem("invalid_base64", f"data is not valid base64: {error}.") from None


def _data_url_payload(url: str) -> str:
    head, comma, payload = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise HttpProblem("invalid_base64", "A data URL must look like data:image/jpeg;base64,...")
    return unquote_to_bytes(payload).decode("latin-1") if "%" in payload else payload


def _from_form(request: Request, limits: Limits, asked: Mapping[str, Any]) -> Draft:
    form = multipart.read(body(request), request.mimetype_params.get("boundary", ""))
    uploads = [part for part in form.files if part.name == "image"]
    if not uploads:
        raise wrong_value("image", "is missing", "Send the image as a file in the field image.")
    return draft(uploads[0].data, {**asked, **parameters(form.values())}, limits)
