"""Correlation ids: one name for an exchange in the answer, the log and the worker.

A valid ``X-Request-ID`` is echoed, another replaced; the W3C ``traceparent`` travels to the worker with the request.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from flask import Flask, Response, g, request
from flask.globals import app_ctx
from structlog.contextvars import bind_contextvars

HEADER = "X-Request-ID"
_HARMLESS = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def register(app: Flask) -> None:
    """Give every request of ``app`` an id, and its answer the id and the headers of :func:`add_headers`."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g = app_ctx.g
    g.headers = {}
    g.correlation_id = correlation_id(request.headers.get(HEADER, ""))
    # Every log line of this thread has the id until its next request.
    bind_contextvars(request_id=g.correlation_id)


def correlation_id(given: str) -> str:
    """The ``X-Request-ID`` of an answer to a request that has this one."""
    return given if _HARMLESS.fullmatch(given) else secrets.token_hex(16)


def _end(response: Response) -> Response:
    said = app_ctx.g
    response.headers.update({**said.get("headers", {}), HEADER: said.get("correlation_id", "")})
    return response


def add_headers(headers: Mapping[str, str]) -> None:
    """Set headers of the current answer, even if it is an error."""
    g.headers.update(headers)


def traceparent() -> str:
    """The caller's ``traceparent`` if it is valid, else a new unsampled one."""
    given = request.headers.get("traceparent", "").strip().lower()
    if _TRACEPARENT.fullmatch(given):
        return given
    fresh = secrets.token_hex(24)
    return f"00-{fresh[:32]}-{fresh[32:]}-00"
