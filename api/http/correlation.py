"""Names each HTTP exchange so that a caller, the log and the worker can speak of the same one.

``X-Request-ID`` is echoed when it is harmless, otherwise replaced; the W3C ``traceparent`` is passed on to the worker
with the request. Neither decides anything.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from flask import g, request
from structlog.contextvars import bind_contextvars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask, Response

HEADER = "X-Request-ID"
_HARMLESS = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def register(app: Flask) -> None:
    """Give every request of ``app`` an id, and every answer the same and what :func:`add_headers` was given."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    given = request.headers.get(HEADER, "")
    g.headers = {}
    g.correlation_id = given if _HARMLESS.fullmatch(given) else secrets.token_hex(16)
    # Until this thread's next request every line it writes has the id: what an answer names is found in the log.
    bind_contextvars(request_id=g.correlation_id)


def _end(response: Response) -> Response:
    said: dict[str, str] = g.get("headers", {})
    response.headers.update({**said, HEADER: g.get("correlation_id", "")})
    return response


def add_headers(headers: Mapping[str, str]) -> None:
    """Set these on the answer to the current request, also if that is an error."""
    g.headers.update(headers)


def traceparent() -> str:
    """The caller's ``traceparent`` when it is well formed, else a new unsampled one."""
    given = request.headers.get("traceparent", "").strip().lower()
    if _TRACEPARENT.fullmatch(given):
        return given
    fresh = secrets.token_hex(24)
    return f"00-{fresh[:32]}-{fresh[32:]}-00"
