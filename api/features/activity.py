"""The activity log: a line for each successful call of a route that only an admin may use, newest first."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, request

from api.services import service
from common.settings import Settings
from tasks.errors import Unavailable
from tasks.protocol.connections import prompt, translated

log = logging.getLogger(__name__)

KEPT, SHOWN = 200, 50  # lines
READ_ONLY = frozenset({"GET", "HEAD", "OPTIONS"})


class Activity:
    """The log in Redis."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._key = f"{settings.key_prefix}api:activity"

    def write(self, what: str, who: str) -> None:
        """Add a line."""
        line = json.dumps({"at": time.time(), "what": what, "who": who})
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(self._key, line)
            pipe.ltrim(self._key, 0, KEPT - 1)
            pipe.execute()

    def read(self) -> list[dict[str, Any]]:
        """The newest lines."""
        with translated():
            lines = self._redis.lrange(self._key, 0, SHOWN - 1)
        return [json.loads(line) for line in lines]


def register(app: Flask) -> None:
    """Log the calls of ``app``."""
    app.after_request(_record)


def _record(response: Response) -> Response:
    if g.get("role") == "admin" and response.status_code < 400 and request.method not in READ_ONLY:
        try:
            service(Activity).write(_call(), str(g.get("who", request.remote_addr)))
        except Unavailable as error:  # the order took effect; a lost log line must not turn it into an error
            log.warning("not in the activity log: %s %s: %s", request.method, request.path, error)
    return response


def _call() -> str:
    """Method, path, and short members of the parsed body."""
    body: Mapping[str, Any] = g.get("body", {})
    members = {name: value for name, value in body.items() if isinstance(value, str | int | float)}
    return f"{request.method} {request.path} {json.dumps(members) if members else ''}"[:300].strip()
