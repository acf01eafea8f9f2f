"""One call with its retries: no network, and the pauses are looked at instead of slept through."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import httpx
import pytest

from inferlane.connection import Call, SyncConnection
from inferlane.errors import (
    InvalidImage,
    Refused,
    ServerError,
    Timeout,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from inferlane.exchange import ANSWER_TIMEOUT, exchange
from inferlane.retries import CallLimits, Retries

CALL = Call("GET", "/x")
REQUEST = httpx.Request("GET", "http://somewhere:8000/x")


def answer(status: int, document: Any = None, **headers: str) -> httpx.Response:
    given = {"Content-Type": "application/problem+json" if status >= 400 else "application/json", **headers}
    return httpx.Response(status, json=document or {}, headers=given, request=REQUEST)


class Scripted(SyncConnection):
    """Answers calls one after the other; notes its pauses and timeouts."""

    def __init__(self, *answers: httpx.Response | httpx.RequestError) -> None:
        super().__init__("http://somewhere:8000", transport=httpx.MockTransport(self.answer))
        self.left, self.pauses, self.timeouts = list(answers), list[float](), list[float]()

    def answer(self, _request: httpx.Request) -> httpx.Response:
        assert self.left, "it sent more often than expected"
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def send(self, call: Call, timeout: float) -> httpx.Response:  # noqa: ASYNC109 - as httpx means it
        self.timeouts.append(timeout)
        return await super().send(call, timeout)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def play(
    given: CallLimits, *answers: httpx.Response | httpx.RequestError, call: Call = CALL, accept: Collection[int] = ()
) -> tuple[httpx.Response, list[float]]:
    """The answer of an exchange that gets ``answers``, and its pauses."""
    connection = Scripted(*answers)
    found = connection.run(exchange(connection, lambda: call, given, accept))
    assert not connection.left, "it stopped sending"
    return found, connection.pauses


def limits(seconds: float = 60.0, patience: float = 10.0) -> CallLimits:
    return CallLimits.within(seconds, Retries(patience=patience))


def lost() -> httpx.ConnectError:
    return httpx.ConnectError("refused", request=REQUEST)


def test_a_success_is_returned_at_once() -> None:
    found, pauses = play(limits(), answer(200, {"a": 1}))
    assert found.json() == {"a": 1}
    assert pauses == []


def test_a_refusal_is_retried_after_the_time_it_names() -> None:
    full = answer(503, {"code": "lane_full", "retryable": True}, **{"Retry-After": "7"})
    found, pauses = play(limits(), full, full, answer(200))
    assert found.status_code == 200
    assert all(7 <= pause <= 8.75 for pause in pauses)
    assert len(pauses) == 2


def test_a_refusal_is_the_error_when_no_time_is_left_for_what_it_asks() -> None:
    full = answer(503, {"code": "lane_full", "retryable": True}, **{"Retry-After": "7"})
    with pytest.raises(Refused) as caught:
        play(limits(5), full)
    assert caught.value.retry_after == 7


def test_a_hopeless_deadline_is_told_at_once() -> None:
    hopeless = answer(503, {"code": "deadline_hopeless", "retryable": True}, **{"Retry-After": "1"})
    with pytest.raises(Refused):
        play(limits(), hopeless)


def test_a_broken_connection_is_retried() -> None:
    broken = httpx.RemoteProtocolError("server disconnected", request=REQUEST)
    found, pauses = play(limits(), lost(), broken, answer(200))
    assert found.status_code == 200
    assert len(pauses) == 2


def test_an_outage_longer_than_the_patience_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="somewhere:8000"):
        play(limits(patience=0), lost())


class Clock:
    """The time, which moves when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_a_refusal_ends_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    class Slow(Scripted):
        async def pause(self, seconds: float) -> None:
            await super().pause(seconds)
            clock.now += 8  # together longer than the patience, but no outage is

    full = answer(503, {"code": "lane_full", "retryable": True}, **{"Retry-After": "1"})
    connection = Slow(lost(), full, lost(), answer(200))
    found = connection.run(exchange(connection, lambda: CALL, limits(600, patience=10)))
    assert (found.status_code, connection.left) == (200, [])


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(422, "unsupported_image", InvalidImage), (500, "internal_error", ServerError)],
)
def test_what_cannot_change_is_not_tried_again(status: int, code: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        play(limits(), answer(status, {"code": code}))


def test_a_proxy_without_its_api_is_unavailable_and_retried() -> None:
    page = httpx.Response(502, text="<html>Bad Gateway", request=REQUEST)
    found, pauses = play(limits(), page, answer(200))
    assert found.status_code == 200
    with pytest.raises(Unavailable):
        play(limits(patience=0), page)
    assert len(pauses) == 1


@pytest.mark.parametrize("status", [301, 404, 418, 500])
def test_an_answer_that_is_no_problem_document_is_unexpected(status: int) -> None:
    page = httpx.Response(status, text="<html>", request=REQUEST)
    with pytest.raises(UnexpectedAnswer, match=str(status)):
        play(limits(), page)


def test_statuses_that_are_answers_here_are_returned() -> None:
    found, _ = play(limits(), answer(503, {"status": "unhealthy"}), accept={503})
    assert found.json() == {"status": "unhealthy"}


def test_no_call_is_sent_when_no_time_is_left() -> None:
    with pytest.raises(Timeout):
        play(limits(0))


def test_a_call_never_outlives_the_limits() -> None:
    for seconds, timeout in ((3, 3), (300, 20 + ANSWER_TIMEOUT)):
        connection = Scripted(answer(200))
        connection.run(exchange(connection, lambda: Call("GET", "/x", wait=20), limits(seconds)))
        assert connection.timeouts == [pytest.approx(timeout, abs=1)]
        assert connection.timeouts[0] <= timeout


def test_silence_at_the_end_of_the_time_is_a_timeout_and_not_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    class Silent(Scripted):
        async def send(self, call: Call, timeout: float) -> httpx.Response:  # noqa: ASYNC109 - as httpx means it
            clock.now += 3
            return await super().send(call, timeout)

    connection = Silent(httpx.ReadTimeout("", request=REQUEST))
    with pytest.raises(Timeout):
        connection.run(exchange(connection, lambda: CALL, limits(3)))
