"""The flow of one call, driven by hand: no network, and the pauses are looked at instead of slept through."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from inferlane.errors import (
    InvalidImage,
    Refused,
    ServerError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from inferlane.exchange import ANSWER_TIMEOUT, CallLimits, exchange
from inferlane.flow import Call, Flow, Pause
from inferlane.retries import Retries

CALL = Call(method="GET", path="/x")
REQUEST = httpx.Request("GET", "http://somewhere:8000/x")


def answer(status: int, document: Any = None, **headers: str) -> httpx.Response:
    given = {"Content-Type": "application/problem+json" if status >= 400 else "application/json", **headers}
    return httpx.Response(status, json=document or {}, headers=given, request=REQUEST)


def play(flow: Flow[httpx.Response], *events: httpx.Response | httpx.RequestError) -> tuple[Any, list[float]]:
    """Feed ``events`` to the calls of ``flow``; what it returned or raised, and its pauses."""
    pauses: list[float] = []
    left = list(events)
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = flow.send(None)
                continue
            assert left, "it sent more often than expected"
            event = left.pop(0)
            step = flow.throw(event) if isinstance(event, Exception) else flow.send(event)
    except StopIteration as end:
        assert not left, "it stopped sending"
        return end.value, pauses


def limits(seconds: float = 60.0, patience: float = 10.0) -> CallLimits:
    return CallLimits.within(seconds, Retries(patience=patience))


def lost() -> httpx.ConnectError:
    return httpx.ConnectError("refused", request=REQUEST)


def test_a_success_is_returned_at_once() -> None:
    found, pauses = play(exchange(lambda: CALL, limits()), answer(200, {"a": 1}))
    assert found.json() == {"a": 1}
    assert pauses == []


def test_a_refusal_is_retried_after_the_time_it_names() -> None:
    full = answer(503, {"code": "lane_full", "retryable": True}, **{"Retry-After": "7"})
    found, pauses = play(exchange(lambda: CALL, limits()), full, full, answer(200))
    assert found.status_code == 200
    assert all(7 <= pause <= 8.75 for pause in pauses)
    assert len(pauses) == 2


def test_a_refusal_is_the_error_when_no_time_is_left_for_what_it_asks() -> None:
    full = answer(503, {"code": "lane_full", "retryable": True}, **{"Retry-After": "7"})
    with pytest.raises(Refused) as caught:
        play(exchange(lambda: CALL, limits(5)), full)
    assert caught.value.retry_after == 7


def test_a_hopeless_deadline_is_told_at_once() -> None:
    hopeless = answer(503, {"code": "deadline_hopeless", "retryable": True}, **{"Retry-After": "1"})
    with pytest.raises(Refused):
        play(exchange(lambda: CALL, limits()), hopeless)


def test_a_broken_connection_is_retried() -> None:
    broken = httpx.RemoteProtocolError("server disconnected", request=REQUEST)
    found, pauses = play(exchange(lambda: CALL, limits()), lost(), broken, answer(200))
    assert found.status_code == 200
    assert len(pauses) == 2


def test_an_outage_longer_than_the_patience_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="somewhere:8000"):
        play(exchange(lambda: CALL, limits(patience=0)), lost())


def test_a_refusal_ends_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    flow = exchange(lambda: CALL, limits(600, patience=10))
    full = answer(503, {"code": "lane_full", "retryable": True}, **{"Retry-After": "1"})
    events: list[Any] = [lost(), full, lost(), answer(200)]
    step = next(flow)
    for event in events[:-1]:
        step = flow.throw(event) if isinstance(event, Exception) else flow.send(event)
        assert isinstance(step, Pause)
        now[0] += 8  # together longer than the patience, but no outage is
        step = flow.send(None)
    with pytest.raises(StopIteration):
        flow.send(events[-1])


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(422, "unsupported_image", InvalidImage), (500, "internal_error", ServerError)],
)
def test_what_cannot_change_is_not_tried_again(status: int, code: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        play(exchange(lambda: CALL, limits()), answer(status, {"code": code}))


def test_a_proxy_without_its_api_is_unavailable_and_retried() -> None:
    page = httpx.Response(502, text="<html>Bad Gateway", request=REQUEST)
    found, pauses = play(exchange(lambda: CALL, limits()), page, answer(200))
    assert found.status_code == 200
    with pytest.raises(Unavailable):
        play(exchange(lambda: CALL, limits(patience=0)), page)
    assert len(pauses) == 1


@pytest.mark.parametrize("status", [301, 404, 418, 500])
def test_an_answer_that_is_no_problem_document_is_unexpected(status: int) -> None:
    page = httpx.Response(status, text="<html>", request=REQUEST)
    with pytest.raises(UnexpectedAnswer, match=str(status)):
        play(exchange(lambda: CALL, limits()), page)


def test_statuses_that_are_answers_here_are_returned() -> None:
    found, _ = play(exchange(lambda: CALL, limits(), accept={503}), answer(503, {"status": "unhealthy"}))
    assert found.json() == {"status": "unhealthy"}


def test_no_call_is_sent_when_no_time_is_left() -> None:
    with pytest.raises(Timeout):
        play(exchange(lambda: CALL, limits(0)))


def test_a_call_never_outlives_the_limits() -> None:
    step = next(exchange(lambda: Call(method="GET", path="/x", wait=20), limits(3)))
    assert isinstance(step, Call)
    assert 2 < step.timeout <= 3
    step = next(exchange(lambda: Call(method="GET", path="/x", wait=20), limits(300)))
    assert isinstance(step, Call)
    assert step.timeout == 20 + ANSWER_TIMEOUT


def test_silence_at_the_end_of_the_time_is_a_timeout_and_not_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    flow = exchange(lambda: CALL, limits(3))
    next(flow)
    now[0] += 3
    with pytest.raises(Timeout):
        flow.throw(httpx.ReadTimeout("", request=REQUEST))
