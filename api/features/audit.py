"""The audit log: who called which administrative route, with which key, from where, and with what result.

Two bounded streams in Redis, one for administrators' orders and one for all other such calls (reads and refusals), so
that a flood of refused calls pushes out no order. Written after the call: a process that dies in between, or an outage
of Redis, may lose the entry of an order that took effect; the outage is logged.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from flask import Flask, Response, g, request
from redis.exceptions import RedisError

from api.http.api_keys import ApiKey
from api.services import service
from common.settings import Settings
from tasks.errors import BrokerUnavailable, TaskError
from tasks.protocol.connections import prompt, translated

log = logging.getLogger(__name__)

KEPT = 10_000  # entries of each stream, and up to a hundred more: Redis cuts whole blocks
SHOWN = 50  # orders in the snapshot
PAGE = 1000  # entries of an export in one round trip
MOST = 300  # characters of a path
CURSOR = re.compile(r"\d{1,15}-\d{1,15}")
READ_ONLY = frozenset({"GET", "HEAD", "OPTIONS"})
#: A key in the wrong place, such as a path.
_KEY = re.compile(r"il_[\w-]{8,}")

LoggedCall = dict[str, Any]


class Audit:
    """The log in Redis."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._orders, self._others = (f"{settings.key_prefix}api:audit:{kind}" for kind in ("orders", "others"))

    def write(self, entry: LoggedCall, *, order: bool) -> None:
        """Add an entry; Redis dates it."""
        text = _KEY.sub("il_...", json.dumps(entry))
        with translated():
            self._redis.xadd(self._orders if order else self._others, {"entry": text}, maxlen=KEPT, approximate=True)

    def page(self, limit: int, cursor: str = "") -> tuple[list[LoggedCall], str | None]:
        """The newest entries, or those before a cursor, and the cursor of the next page if there is one.

        There may be more than ``limit`` where entries of the two streams have the same id.
        """
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for stream in (self._orders, self._others):
                pipe.xrevrange(stream, f"({cursor}" if cursor else "+", "-", count=limit + 1)
            found = sorted(
                ((_moment(entry_id), members[b"entry"]) for entry_id, members in chain(*pipe.execute())), reverse=True
            )
        last = found[limit - 1][0] if len(found) > limit else (0, 0)
        shown = [(moment, text) for moment, text in found if moment >= last]
        more = "{}-{}".format(*last) if len(shown) < len(found) else None
        return [{"at": milliseconds / 1000, **json.loads(text)} for (milliseconds, _), text in shown], more

    def everything(self) -> Iterator[LoggedCall]:
        """Every entry, newest first; the first page is read before this returns, so that its errors can be answered."""
        entries, cursor = self.page(PAGE)
        return chain(entries, self._after(cursor))

    def _after(self, cursor: str | None) -> Iterator[LoggedCall]:
        while cursor:
            entries, cursor = self.page(PAGE, cursor)
            yield from entries

    def orders(self) -> list[dict[str, Any]]:
        """The newest orders that were carried out, one line each."""
        with translated():
            found = self._redis.xrevrange(self._orders, count=SHOWN)
        entries = [(_moment(entry_id)[0] / 1000, json.loads(members[b"entry"])) for entry_id, members in found]
        return [
            {"at": at, "what": _line(entry), "who": entry["name"]} for at, entry in entries if entry["status"] < 400
        ]


def _moment(entry_id: bytes) -> tuple[int, int]:
    """Milliseconds since 1970, and the number within that millisecond."""
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)


def _line(entry: Mapping[str, Any]) -> str:
    members = json.dumps(entry["body"]) if entry["body"] else ""
    return f"{entry['method']} {entry['path'].partition('?')[0]} {members}".strip()


def register(app: Flask) -> None:
    """Log the calls of ``app``."""
    app.after_request(_record)


def _record(response: Response) -> Response:
    if g.get("role") == "admin":
        order = bool(g.get("sees_all")) and request.method not in READ_ONLY
        entry = _entry(response.status_code)
        try:
            if g.get("problem") == BrokerUnavailable.code:
                raise BrokerUnavailable("the call found Redis unavailable")  # a second try would delay the answer
            service(Audit).write(entry, order=order)
        except (TaskError, RedisError) as error:
            # The order took effect: a lost entry must not turn it into an error.
            log.warning("not in the audit log: %s", error, extra={"entry": entry})
    return response


def _entry(status: int) -> LoggedCall:
    caller: ApiKey | None = g.get("caller")
    body: Mapping[str, Any] = g.get("body", {})
    return {
        "name": caller.name if caller else "",
        "key_id": caller.id if caller else "",
        "address": request.remote_addr or "",
        "method": request.method,
        "route": str(request.url_rule),
        "path": request.full_path.rstrip("?")[:MOST],
        "body": body,
        "status": status,
        "request_id": g.get("correlation_id", ""),
    }
