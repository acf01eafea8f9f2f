"""``GET /usage``: what each owner asked for, by day and model, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from flask import Response, request

from api.http.openapi import OWNER, Answer, Operations, query
from api.http.ownership import visible_owner
from api.http.parameters import choice, whole
from api.services import service
from api.views.resources import now, reply, timestamp
from tasks.inspect.monitor import Monitor
from tasks.protocol.usage import AMOUNTS, DAYS, Row

blueprint = Operations("usage", __name__, description="What each owner asked for")

COLUMNS = ("owner", "day", "model", *AMOUNTS)
FORMATS = ("json", "csv")


@blueprint.operation(
    "GET", "/usage",
    Answer("One row per owner, day and model, newest day first", "Usage"),
    Answer("The same rows, with a header", {"type": "string"}, media_type="text/csv"),
    problems=["invalid_parameters"],
    parameters=[
        OWNER,
        query("days", "How many UTC days, the current one included",
              {"type": "integer", "minimum": 1, "maximum": DAYS, "default": DAYS}),
        query("format", "Instead of the Accept header", {"type": "string", "enum": list(FORMATS)}),
    ],
)  # fmt: skip
def usage() -> Response:
    """Get what was asked for: the caller's own, or everybody's for an admin."""
    monitor, owner = service(Monitor), visible_owner()
    rows = monitor.usage(owner, whole("days", request.args, DAYS, most=DAYS))
    if _format() == "csv":
        return Response(_csv(rows), mimetype="text/csv")
    quota = monitor.quota(owner) if owner else None
    if quota:
        quota["resets"] = timestamp(quota["resets"])
    return reply({"usage": rows, "quota": quota, "timestamp": now()})


def _format() -> str:
    if asked := choice("format", request.args.get("format"), FORMATS):
        return asked
    return "csv" if request.accept_mimetypes.best_match(["application/json", "text/csv"]) == "text/csv" else "json"


def _csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
