"""``GET /usage``: each owner's usage by day and model, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from flask import Response, request

from api.http.openapi import OWNER, Answer, Operations, query
from api.http.ownership import visible_owner
from api.http.parameters import chosen_format, whole
from api.services import service
from api.views import system
from api.views.resources import now, reply
from tasks.inspect.monitor import Monitor
from tasks.protocol.usage import AMOUNTS, DAYS, Row

blueprint = Operations("usage", __name__, description="Each owner's usage")

COLUMNS = ("owner", "day", "model", *AMOUNTS)
FORMATS = {"json": "application/json", "csv": "text/csv"}


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
    """Get the usage: the caller's own, or everybody's for an admin."""
    monitor, owner = service(Monitor), visible_owner()
    rows = monitor.usage(owner, whole("days", request.args, DAYS, most=DAYS))
    if chosen_format(FORMATS) == "csv":
        return Response(_csv(rows), mimetype="text/csv")
    quota = system.quota(monitor.quota(owner)) if owner else None
    return reply({"usage": rows, "quota": quota, "timestamp": now()})


def _csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
