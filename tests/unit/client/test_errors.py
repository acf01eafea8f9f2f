from __future__ import annotations

import re

import pytest

from api.http.problems import PROBLEM_TYPES
from inferlane import errors
from inferlane.errors import (
    ClientError,
    Expired,
    Failed,
    InvalidImage,
    NotFound,
    Poison,
    Problem,
    RateLimited,
    Refused,
    ServerError,
    TryLater,
    Unavailable,
    outcome,
    problem,
)
from tests.support.processes import ROOT


def classes() -> list[type[ClientError]]:
    found = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, ClientError)]
    return [item for item in found if item.__module__ == errors.__name__]


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    drawn, path = {}, []
    tree = re.search(r"^ClientError\n.*?(?=^```)", (ROOT / "docs" / "client.md").read_text(), re.DOTALL | re.MULTILINE)
    assert tree
    for line in tree[0].splitlines():
        if found := re.match(r"([│ ├└─]*)(\w+)(?:$| {2,})", line):
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            drawn[found[2]] = path[-2] if depth else "Exception"
    assert drawn == {item.__name__: item.__bases__[0].__name__ for item in classes()}


def test_every_class_takes_one_message() -> None:
    for item in classes():
        assert str(item("what happened")) == "what happened"


@pytest.mark.parametrize("code", PROBLEM_TYPES)
def test_every_problem_of_the_api_becomes_an_error_of_its_kind(code: str) -> None:
    kind = PROBLEM_TYPES[code]
    error = problem(kind.status, {"code": code, "detail": "so it is", "retryable": kind.retryable}, 3.0)
    assert (error.code, error.status, error.retryable, str(error)) == (code, kind.status, kind.retryable, "so it is")
    assert type(error) is not Problem
    assert isinstance(error, TryLater) == (kind.retryable and kind.status in {429, 503, 504})
    if kind.status == 404:
        assert isinstance(error, NotFound)


def test_offending_fields_are_in_the_message() -> None:
    error = problem(
        422, {"code": "invalid_parameters", "detail": "Wrong.", "errors": [{"name": "top_k", "detail": "x"}]}
    )
    assert "top_k x" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("lane_full", Refused), ("rate_limited", RateLimited), ("broker_unavailable", Unavailable), ("new", TryLater)],
)
def test_what_may_succeed_later_says_when(code: str, kind: type[ClientError]) -> None:
    error = problem(429 if code == "rate_limited" else 503, {"code": code}, 7.0)
    assert isinstance(error, kind)
    assert error.retry_after == 7.0


def test_an_unknown_code_is_judged_by_its_status() -> None:
    assert isinstance(problem(500, {"code": "surprise"}), ServerError)
    assert isinstance(problem(404, {}), NotFound)


@pytest.mark.parametrize(
    ("state", "code", "kind"),
    [
        ("failed", "inference_failed", Failed),
        ("failed", "poison", Poison),
        ("failed", "unsupported_image", InvalidImage),
        ("failed", "weights_unavailable", Failed),
        ("expired", "deadline", Expired),
    ],
)
def test_how_a_request_ended_decides_the_error(state: str, code: str, kind: type[ClientError]) -> None:
    error = outcome(state, {"code": code, "message": "because", "retryable": False})
    assert type(error) is kind
    assert (error.code, str(error)) == (code, "because")


def test_an_answer_that_tells_how_a_request_ended_is_never_worth_a_retry() -> None:
    document = {"code": "inference_failed", "state": "failed", "retryable": True, "detail": "no"}
    assert isinstance(problem(500, document), Failed)
    assert not isinstance(problem(503, {"code": "broker_unavailable", "state": "failed"}), TryLater)
