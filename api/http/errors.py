"""Translates every error of the layers below, and of Flask itself, into a :class:`~api.http.problems.HttpProblem`.

This is where the tree of :mod:`tasks.errors` meets HTTP.
"""

from __future__ import annotations

from flask import Flask, g
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.wrappers import Response

from api.http.problems import BY_STATUS, PROBLEM_TYPES, HttpProblem, render
from api.http.refusals import Refusals
from api.services import EXTENSION, app_settings
from tasks.errors import TaskError, UnsupportedModel
from tasks.lanes import ANY
from tasks.protocol.owners import public_id
from tasks.protocol.requests import Request

#: The app's :class:`~api.http.refusals.Refusals`, among its extensions.
REFUSALS = "inferlane.refusals"


def register(app: Flask) -> None:
    """Answer every error of ``app`` with a problem document."""
    refusals = app.extensions[REFUSALS] = Refusals(app.extensions[EXTENSION])

    def answer(problem: HttpProblem) -> Response:
        g.problem = problem.code
        response = render(problem)
        if problem.stands:
            refusals.keep(problem, response)
        return response

    app.register_error_handler(HttpProblem, answer)
    app.register_error_handler(TaskError, lambda error: answer(from_task(error)))
    app.register_error_handler(HTTPException, from_http)


def from_task(error: TaskError) -> HttpProblem:
    """The problem for ``error``."""
    code = error.code if error.code in PROBLEM_TYPES else "internal_error"
    members = {"models": [*app_settings().models, ANY]} if isinstance(error, UnsupportedModel) else error.members
    problem = HttpProblem(code, str(error), retryable=error.retryable, retry_after=error.retry_after, members=members)
    return problem.standing(error.stands)


def from_outcome(record: Request) -> HttpProblem:
    """The problem for a waiting caller whose request ended without predictions.

    A state other than failed has its own code; a failure keeps the worker's code if the table has it.
    """
    error = record.error or {}
    code = str(error.get("code", record.state.value))
    if record.state.value in PROBLEM_TYPES:
        code = record.state.value
    detail = str(error.get("message") or f"The request ended {record.state.value}.")
    members = {
        "error": {**error, "code": code},
        "state": record.state.value,
        "instance": f"/inference/{public_id(record.id)}",
    }
    known = code if code in PROBLEM_TYPES else "inference_failed"
    return HttpProblem(known, detail, retryable=bool(error.get("retryable", False)), members=members)


def from_http(error: HTTPException) -> Response:
    """The answer for an error of Flask or Werkzeug; redirects pass unchanged."""
    status = error.code or 500
    if status < 400:
        return error.get_response()
    code = BY_STATUS.get(status, "bad_request" if status < 500 else "internal_error")
    detail = error.description or error.name
    if status >= 500:
        detail = "The server made an error; the log has the details under this request_id."
    problem = HttpProblem(code, detail, status=status)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        problem.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return render(problem)
