"""``GET /admin/audit``: the audit log, as pages of JSON or as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Response, request

from api.features.audit import CURSOR, Audit
from api.http import declared
from api.http.openapi import Answer, Operations, query
from api.http.parameters import chosen_format, page_size
from api.http.problems import wrong_value
from api.services import service
from api.views.resources import now, reply, timestamp

blueprint = Operations("audit", __name__, description="Who called which administrative route")

NDJSON = "application/x-ndjson"
FORMATS = {"json": "application/json", "ndjson": NDJSON}


@blueprint.operation(
    "GET", "/admin/audit",
    Answer("The newest entries first", "AuditLog"),
    Answer("Every entry, one per line", {"type": "string"}, media_type=NDJSON),
    problems=["invalid_parameters"],
    parameters=[
        query("limit", "How many", declared.LIMIT),
        query("cursor", "`next_cursor` of the page before", {"type": "string"}),
        query("format", "Instead of the Accept header", {"type": "string", "enum": list(FORMATS)}),
    ],
    role="admin",
)  # fmt: skip
def audit_log() -> Response:
    """Get the audit log: calls of administrative routes, refused ones included."""
    log, cursor = service(Audit), request.args.get("cursor", "")
    if cursor and not CURSOR.fullmatch(cursor):
        raise wrong_value("cursor", "must be the next_cursor of a page")
    if chosen_format(FORMATS) == "ndjson":
        return Response((json.dumps(_row(entry)) + "\n" for entry in log.everything()), mimetype=NDJSON)
    entries, more = log.page(page_size(request.args), cursor)
    return reply({"entries": [_row(entry) for entry in entries], "next_cursor": more, "timestamp": now()})


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry, "at": timestamp(entry["at"])}
