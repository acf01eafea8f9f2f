"""Both clients over a transport that fails in ways a real API cannot be made to fail in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from inferlane import AsyncClient, Client, Result, Retries
from inferlane.errors import AccessDenied, InvalidImage, Refused, Timeout, UnexpectedAnswer
from inferlane.retries import ONCE

QUICK = Retries(first=0.001, most=0.002, patience=5)
Answer = Callable[[httpx.Request], httpx.Response]


def done(request_id: str, **more: Any) -> httpx.Response:
    prediction = {"class": "tabby", "index": 281, "confidence": 0.9}
    return httpx.Response(200, json={
        "request_id": request_id, "state": "succeeded", "status": "success", "model_type": "any", "priority": "normal",
        "model": "m", "weights": "w", "worker_id": "x", "predictions": [prediction], **more,
    })  # fmt: skip


def pending(request_id: str) -> httpx.Response:
    body = {"request_id": request_id, "state": "queued", "model_type": "any", "priority": "normal"}
    return httpx.Response(202, json=body)


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    document = {"code": code, "detail": code, "retryable": status in {429, 503}}
    return httpx.Response(status, json=document, headers={"Content-Type": "application/problem+json", **headers})


class Script:
    """Answers calls one after the other and remembers them."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found: httpx.Response = answer(self.request_id) if callable(answer) else answer
        return found

    @property
    def request_id(self) -> str:
        return str(self.seen[0].url.params["request_id"])


def sync_predict(script: Script, **more: Any) -> Result:
    with Client("http://api", transport=httpx.MockTransport(script), **{"retries": QUICK} | more) as client:
        return client.predict(b"image")


def async_predict(script: Script, **more: Any) -> Result:
    async def play() -> Result:
        transport = httpx.MockTransport(script)
        async with AsyncClient("http://api", transport=transport, **{"retries": QUICK} | more) as client:
            return await client.predict(b"image")

    return asyncio.run(play())


@pytest.fixture(params=[sync_predict, async_predict], ids=["sync", "async"])
def predict(request: pytest.FixtureRequest) -> Callable[..., Result]:
    found: Callable[..., Result] = request.param
    return found


def test_refused_then_dropped_then_answered_is_one_request(predict: Callable[..., Result]) -> None:
    script = Script(
        problem(503, "lane_full", **{"Retry-After": "0"}),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        httpx.ReadError("reset"),
        httpx.Response(502, text="<html>"),
        done,
    )
    assert predict(script).best.label == "tabby"
    assert {request.url.params["request_id"] for request in script.seen} == {script.request_id}
    assert {request.content for request in script.seen} == {b"image"}


def test_a_202_is_followed_by_looking(predict: Callable[..., Result]) -> None:
    script = Script(pending, pending, done)
    predict(script)
    assert [request.method for request in script.seen] == ["POST", "GET", "GET"]
    assert {request.url.path for request in script.seen[1:]} == {f"/inference/{script.request_id}"}
    assert all(request.headers["Prefer"].startswith("wait=") for request in script.seen)


def test_a_request_that_the_api_has_lost_is_handed_in_again_under_its_id(predict: Callable[..., Result]) -> None:
    script = Script(pending, problem(404, "unknown_request"), done)
    predict(script)
    assert [request.method for request in script.seen] == ["POST", "GET", "POST"]
    assert script.seen[0].url.params["request_id"] == script.seen[2].url.params["request_id"]


def test_a_timeout_names_the_request(predict: Callable[..., Result]) -> None:
    script = Script(*[pending] * 500)
    with pytest.raises(Timeout) as caught:
        predict(script, timeout=0.05)
    assert caught.value.request_id == script.request_id


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda _: problem(422, "unsupported_image"), InvalidImage),
        (lambda _: problem(401, "unauthorized"), AccessDenied),
        (lambda _: httpx.Response(200, text="<html>a login page"), UnexpectedAnswer),
        (lambda _: httpx.Response(200, json={"hello": 1}), UnexpectedAnswer),
        (lambda _: httpx.Response(302, headers={"Location": "http://elsewhere"}), UnexpectedAnswer),
    ],
)
def test_what_no_retry_can_change_is_told_at_once(
    predict: Callable[..., Result], answer: Callable[[str], httpx.Response], kind: type[Exception]
) -> None:
    script = Script(answer)
    with pytest.raises(kind):
        predict(script)
    assert len(script.seen) == 1


def test_once_means_once(predict: Callable[..., Result]) -> None:
    script = Script(problem(503, "lane_full", **{"Retry-After": "0"}))
    with pytest.raises(Refused):
        predict(script, retries=ONCE)


def test_a_deadline_shrinks_with_every_attempt() -> None:
    script = Script(httpx.ReadError("reset"), done)
    with Client("http://api", transport=httpx.MockTransport(script), retries=QUICK) as client:
        client.predict(b"image", deadline=5.0, priority="high", top_k=3)
    first, second = (request.url.params for request in script.seen)
    assert 5 >= float(first["deadline"]) > float(second["deadline"]) > 4
    assert (second["priority"], second["top_k"]) == ("high", "3")


def test_the_key_is_sent_and_never_shown() -> None:
    script = Script(done)
    with Client("http://api", "secret", transport=httpx.MockTransport(script), retries=QUICK) as client:
        client.predict(b"image")
        assert "secret" not in repr(client.connection)
    assert script.seen[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://host:port"])
def test_an_address_that_is_no_url_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL"):
        Client(url)


def test_an_async_job_can_be_awaited() -> None:
    async def play() -> Result:
        script = Script(pending, done)
        async with AsyncClient("http://api", transport=httpx.MockTransport(script), retries=QUICK) as client:
            return await (await client.submit(b"image"))

    assert asyncio.run(play()).best.index == 281
