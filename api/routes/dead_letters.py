"""``/dead_letters``: requests that were given up; list, requeue or delete them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response, request

from api.http import declared
from api.http.openapi import OWNER, Answer, Operations, query
from api.http.ownership import visible_owner
from api.http.parameters import page_size
from api.http.problems import HttpProblem
from api.services import service
from api.views.resources import reply, request_resource
from tasks.control.dead_letters import DeadLetters
from tasks.errors import UnknownRequest
from tasks.protocol.owners import public_id

blueprint = Operations("dead letters", __name__, description="Requests that were given up, kept for a requeue")
ONE = ("unknown_dead_letter",)


@blueprint.operation(
    "GET", "/dead_letters", Answer("The newest first", "DeadLetters"),
    problems=["invalid_parameters"], parameters=[OWNER, query("limit", "How many", declared.LIMIT)],
)  # fmt: skip
def list_dead_letters() -> Response:
    """List the dead letters."""
    letters = service(DeadLetters).list(page_size(request.args), visible_owner())
    return reply({"dead_letters": [request_resource(letter) for letter in letters]})


@blueprint.operation(
    "GET", "/dead_letters/<request_id>", Answer("The request; its timeline says what happened", "Request"), problems=ONE
)
def get_dead_letter(request_id: str) -> Response:
    """Get one dead letter."""
    with _known(request_id):
        return reply(request_resource(service(DeadLetters).get(request_id)))


@blueprint.operation(
    "POST", "/dead_letters/<request_id>/requeue", Answer("It is queued again", "Request"),
    problems=(*ONE, "purged_request"), role="admin",
)  # fmt: skip
def requeue_dead_letter(request_id: str) -> Response:
    """Requeue a dead letter; 410 when its image has expired."""
    with _known(request_id):
        return reply(request_resource(service(DeadLetters).requeue(request_id)))


@blueprint.operation("DELETE", "/dead_letters/<request_id>", Answer("Deleted", status=204), problems=ONE, role="admin")
def delete_dead_letter(request_id: str) -> Response:
    """Delete a dead letter; the request stays failed."""
    with _known(request_id):
        service(DeadLetters).delete(request_id)
    return Response(status=204)


@contextmanager
def _known(request_id: str) -> Iterator[None]:
    try:
        yield
    except UnknownRequest:
        raise HttpProblem("unknown_dead_letter", f"{public_id(request_id)} is not a dead letter.") from None
