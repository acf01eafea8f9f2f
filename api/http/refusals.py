"""Recent refusals: the same call is refused again by its request line and headers, its body unread.

Under overload most calls are refused, and reading and parsing them takes time from accepted ones. A refusal says when
to come back; for a small part of that time it *stands*: the same call gets the same answer. A call with the id of an
accepted request is not refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from flask import Response, g, request

from api.http.correlation import HEADER, correlation_id
from api.http.ownership import key_id
from api.http.problems import HttpProblem
from api.services import Services
from common.front import BodyRefused, Environ
from tasks.errors import BrokerUnavailable
from tasks.lanes import ANY
from tasks.producer.gateway import Gateway
from tasks.protocol.owners import internal_id

log = logging.getLogger(__name__)

#: Refusals that are kept, and the seconds for which one stands at most.
KEPT, LONGEST = 1000, 1.0
#: Seconds after which repeated refusals are counted in Redis.
COUNT_AFTER = 1.0
#: Statuses that depend on the caller alone; the others depend on the parameters, which a JSON or form body may set.
OF_CALLER = frozenset({401, 429})

Call = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StandingRefusal:
    """An answer, until when (monotonic clock) and for which deadlines it stands, and to whom it was given."""

    until: float
    status: int
    headers: dict[str, str]
    document: dict[str, Any]
    deadline: float
    owner: str
    key_name: str


class Refusals:
    """What one process has refused; its threads keep refusals, its event loop looks them up."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: dict[Call, StandingRefusal] = {}
        self._until = 0.0
        self._repeated: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def keep(self, problem: HttpProblem, answer: Response) -> None:
        """Keep the answer to the current call for as long as it stands."""
        by_caller, by_lane, asked = _call(request.environ)
        of_caller = problem.status in OF_CALLER
        if not of_caller and (not asked or self._services.settings.cache_ttl):
            return
        hopeless = problem.code == "deadline_hopeless"
        until = time.monotonic() + min(LONGEST, problem.stands)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        headers = g.headers | {name: value for name, value in answer.headers.items() if name != "Content-Length"}
        self._kept[by_caller if of_caller else by_lane] = StandingRefusal(
            until, problem.status, headers, problem.document(), float(asked["deadline"]) if hopeless else float("inf"),
            g.get("owner", ""), g.get("key_name", ""),
        )  # fmt: skip
        self._until = max(self._until, until)

    async def __call__(self, environ: Environ) -> BodyRefused | None:
        """The standing refusal for a call, or None."""
        if time.monotonic() > self._until:
            return None
        by_caller, by_lane, asked = _call(environ)
        found = self._standing(by_caller) or self._standing(by_lane)
        if found is None or _deadline(asked) > found.deadline:
            return None
        if found.status == HTTPStatus.SERVICE_UNAVAILABLE:
            name = asked.get("request_id") or key_id(environ.get("HTTP_IDEMPOTENCY_KEY", ""), found.key_name)
            if name:
                known: bool = await asyncio.to_thread(self._known, internal_id(found.owner, name))
                if known:
                    return None
            self._count(found.owner, asked["model_type"])
        return _repeated(found, environ)

    def _standing(self, call: Call) -> StandingRefusal | None:
        found = self._kept.get(call)
        return found if found and time.monotonic() < found.until else None

    def _known(self, request_id: str) -> bool:
        """Whether it may have been accepted."""
        try:
            return self._services.get(Gateway).known(request_id)
        except BrokerUnavailable:
            return True

    def _count(self, owner: str, model: str) -> None:
        with self._lock:
            if not self._repeated:
                timer = threading.Timer(COUNT_AFTER, self._write)
                timer.daemon = True
                timer.start()
            self._repeated[owner, model] += 1

    def _write(self) -> None:
        with self._lock:
            repeated, self._repeated = self._repeated, Counter()
        log.warning("refused %d repeated calls without reading their bodies", repeated.total())
        try:
            for (owner, model), number in repeated.items():
                self._services.get(Gateway).count_refused(owner, model, number)
        except BrokerUnavailable as error:
            log.warning("these refusals are not counted: %s", error)


def _call(environ: Environ) -> tuple[Call, Call, dict[str, str]]:
    """Two keys of the call, by caller and by lane, and its query parameters; none if the body may have others."""
    key = environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_X_API_KEY", "")
    address = environ.get("werkzeug.proxy_fix.orig", environ)["REMOTE_ADDR"], environ.get("HTTP_X_FORWARDED_FOR", "")
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    raw = environ.get("CONTENT_TYPE", "").startswith(("image/", "application/octet-stream"))
    if not raw or route != ("POST", "/inference"):
        return (*route, *key, *address), (), {}
    given = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    asked = {"model_type": ANY, "priority": "normal"} | given
    return (*route, *key, *address), (*key, asked["model_type"], asked["priority"]), asked


def _deadline(asked: dict[str, str]) -> float:
    try:
        return float(asked.get("deadline", "inf"))
    except ValueError:
        return float("inf")


def _repeated(found: StandingRefusal, environ: Environ) -> BodyRefused:
    name = correlation_id(environ.get("HTTP_X_REQUEST_ID", ""))
    headers = [(header.lower(), value) for header, value in (found.headers | {HEADER: name}).items()]
    if "HTTP_EXPECT" in environ:
        headers.append(("connection", "close"))
    return BodyRefused(found.status, headers, json.dumps(found.document | {"request_id": name}).encode())
