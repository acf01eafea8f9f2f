"""``/problems/{code}``: the target of ``type`` in a problem document."""

from __future__ import annotations

from flask import Response

from api.http.openapi import Answer, Operations
from api.http.problems import PROBLEM_TYPES, HttpProblem
from api.views.resources import reply

blueprint = Operations("problems", __name__, description="Explanations of problem types")


@blueprint.operation(
    "GET", "/problems/<code>", Answer("The problem type", "ProblemType"), problems=["not_found"], role="public"
)
def get_problem_type(code: str) -> Response:
    """Explain a problem type."""
    kind = PROBLEM_TYPES.get(code)
    if kind is None:
        raise HttpProblem("not_found", f"There is no problem type {code}.")
    members = {"status": kind.status, "title": kind.title, "retryable": kind.retryable}
    return reply({"type": f"/problems/{code}", **members})
