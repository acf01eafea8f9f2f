"""The table of problems: every error of the API, as ``application/problem+json`` (RFC 9457).

Routes raise :class:`HttpProblem`; the layers below raise their own errors, which :mod:`api.http.errors` translates. The
table alone maps a ``code`` to its HTTP status, so that ``/openapi.json``, the pages at ``/problems/{code}`` and the
answers cannot disagree.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from flask import Response, g, json, request
from flask import has_request_context as in_request

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of error: its HTTP status, a title that never varies, and whether the same call may succeed later."""

    status: int
    title: str
    retryable: bool = False


PROBLEM_TYPES: Mapping[str, ProblemType] = {
    "bad_request": ProblemType(400, "The request is malformed"),
    "invalid_json": ProblemType(400, "The body is not valid JSON"),
    "invalid_base64": ProblemType(400, "The image is not valid base64"),
    "invalid_multipart": ProblemType(400, "The multipart body is malformed"),
    "empty_body": ProblemType(400, "The body is empty"),
    "unauthorized": ProblemType(401, "An API key is required"),
    "forbidden": ProblemType(403, "This API key may not do that"),
    "not_found": ProblemType(404, "This resource does not exist"),
    "unknown_request": ProblemType(404, "This request does not exist"),
    "unknown_batch": ProblemType(404, "This batch does not exist"),
    "model_not_found": ProblemType(404, "This model or version does not exist"),
    "unknown_lane": ProblemType(404, "This lane does not exist"),
    "unknown_worker": ProblemType(404, "This worker is not online"),
    "unknown_dead_letter": ProblemType(404, "This dead letter does not exist"),
    "unknown_key": ProblemType(404, "This API key does not exist"),
    "method_not_allowed": ProblemType(405, "This method is not allowed here"),
    "not_acceptable": ProblemType(406, "No representation matches the Accept header"),
    "already_finished": ProblemType(409, "The request has already finished"),
    "chaos_disabled": ProblemType(409, "Fault injection is off"),
    "not_supervised": ProblemType(409, "Another supervisor runs the workers"),
    "canceled": ProblemType(409, "The request was canceled"),
    "purged_request": ProblemType(410, "The record of this request has expired"),
    "body_too_large": ProblemType(413, "The body is too large"),
    "image_too_large": ProblemType(413, "The image is too large"),
    "unsupported_media_type": ProblemType(415, "The media type of the body is not supported"),
    "misdirected": ProblemType(421, "This host name is not allowed"),
    "invalid_parameters": ProblemType(422, "Some parameters are missing or invalid"),
    "empty_image": ProblemType(422, "The image is empty"),
    "unsupported_image": ProblemType(422, "The data is not an image of a supported format"),
    "truncated_image": ProblemType(422, "The image is truncated or damaged"),
    "too_many_pixels": ProblemType(422, "The image has too many pixels"),
    "side_too_long": ProblemType(422, "The image is too wide or too high"),
    "too_many_scans": ProblemType(422, "The JPEG has too many scans"),
    "decode_too_large": ProblemType(422, "The image needs too much memory to be decoded"),
    "invalid_input": ProblemType(422, "The input is invalid"),
    "unknown_model": ProblemType(422, "This model does not exist"),
    "idempotency_conflict": ProblemType(422, "The idempotency key was used with another body"),
    "rate_limited": ProblemType(429, "Too many requests", retryable=True),
    "too_many_open": ProblemType(429, "This owner has too many open requests", retryable=True),
    "quota_exceeded": ProblemType(429, "The quota of this month is used up", retryable=True),
    "internal_error": ProblemType(500, "Internal error"),
    "inference_failed": ProblemType(500, "The model failed on this request", retryable=True),
    "scale_failed": ProblemType(500, "The workers did not start"),
    "poison": ProblemType(500, "The request crashed its workers and became a dead letter"),
    "broker_unavailable": ProblemType(503, "The queue cannot be reached", retryable=True),
    "lane_full": ProblemType(503, "The lane is full", retryable=True),
    "deadline_hopeless": ProblemType(503, "The deadline cannot be met", retryable=True),
    "refused": ProblemType(503, "The request was refused", retryable=True),
    "too_many_waiters": ProblemType(503, "Too many callers are waiting", retryable=True),
    "timeout": ProblemType(504, "No answer within the longest wait", retryable=True),
    "expired": ProblemType(504, "The deadline passed before an answer"),
}
#: For errors that Flask raises: the first, most general code of each status.
BY_STATUS = {kind.status: code for code, kind in reversed([*PROBLEM_TYPES.items()])}
DEFAULT_RETRY_AFTER = 1.0  # seconds; for a 429 or 503 without a computed one


class HttpProblem(Exception):
    """An answer that is an error; ``code`` is a key of :data:`PROBLEM_TYPES`, ``detail`` one sentence for the caller.

    ``errors`` has one ``{"name", "detail"}`` per offending field, ``retry_after`` is in seconds, ``retryable`` and
    ``status`` override the type's own, ``members`` are added to the problem document. ``stands`` is for how many
    seconds the same call would be refused again, whatever its body (:mod:`api.http.refusals`).
    """

    stands = 0.0

    def __init__(
        self, code: str, detail: str, *, errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None, retry_after: float | None = None, retryable: bool | None = None,
        status: int | None = None, members: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        kind = PROBLEM_TYPES[code]
        self.code, self.detail, self.title = code, detail, kind.title
        self.status = status or kind.status
        self.errors: Sequence[Mapping[str, str]] = list(errors)
        self.headers = dict(headers or {})
        self.retryable = kind.retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.members = dict(members or {})

    def standing(self, seconds: float) -> Self:
        """This problem, standing for so many seconds."""
        self.stands = seconds
        return self

    def brief(self) -> dict[str, Any]:
        """The error member of a batch item or request resource."""
        return {"code": self.code, "message": self.detail, "retryable": self.retryable}

    def document(self) -> dict[str, Any]:
        """The members of the problem document."""
        members: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retryable": self.retryable,
        }
        if in_request():
            members |= {"instance": request.path, "request_id": g.get("correlation_id", "")}
        if self.errors:
            members["errors"] = self.errors
        members |= self.members
        if in_request() and request.path.startswith("/v2"):
            members["error"] = self.detail  # a string, as clients of the Open Inference Protocol expect
        return members


def wrong_value(name: str, detail: str, summary: str = "") -> HttpProblem:
    """The problem of a parameter, or a member of a body, with an invalid value."""
    errors = [{"name": name, "detail": detail}]
    return HttpProblem("invalid_parameters", summary or f"Wrong value for {name}.", errors=errors)


def render(problem: HttpProblem) -> Response:
    """The logged HTTP answer for ``problem``, with ``Retry-After`` on every 429 and 503.

    The log line has the answer's ``request_id`` (:mod:`api.http.correlation`).
    """
    level = logging.WARNING if problem.status >= 500 else logging.INFO
    if in_request():
        # Kept out of the message: a line break in a caller's text must not forge a log line.
        facts = {"method": request.method, "path": request.path, "detail": problem.detail}
        log.log(level, "answered %d %s", problem.status, problem.code, extra=facts)
    response = Response(json.dumps(problem.document(), allow_nan=False), problem.status, mimetype=MEDIA_TYPE)
    response.headers.update(problem.headers)
    if problem.retry_after is not None or problem.status in {429, 503}:
        seconds = problem.retry_after if problem.retry_after is not None else DEFAULT_RETRY_AFTER
        response.headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return response
