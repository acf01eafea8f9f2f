"""The snapshot cache: one question to the API for everybody, and an honest answer when there is none."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import httpx
import pytest

from dashboard.api_client import ApiClient
from dashboard.snapshots import FRESH, KEYS, ViewCache, view_caches
from tests.unit.dashboard.samples import snapshot

Answering = Callable[[httpx.Request], httpx.Response]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def api(answer: Answering) -> ApiClient:
    return ApiClient("http://api.test", transport=httpx.MockTransport(answer))


def broken(kind: type[httpx.TransportError]) -> Answering:
    def answer(request: httpx.Request) -> httpx.Response:
        raise kind("no", request=request)

    return answer


def problem(status: int, code: str) -> Answering:
    return lambda _: httpx.Response(status, json={"code": code, "detail": code, "status": status})


def test_it_asks_once_for_everybody_until_the_answer_is_old() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Authorization", ""))
        return httpx.Response(200, json=snapshot())

    clock = Clock()
    cache = ViewCache(api(answer).with_key("secret"), 1.5, clock)
    for _ in range(5):
        assert cache.document()["state"] == "ok"
    assert asked == ["Bearer secret"]
    clock.now += FRESH
    cache.document()
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (broken(httpx.ConnectError), "api_down"),
        (broken(httpx.ReadTimeout), "api_slow"),
        (problem(503, "broker_unavailable"), "redis_down"),
        (problem(401, "unauthorized"), "login"),
        (problem(500, "internal_error"), "api_error"),
    ],
)
def test_each_failure_has_its_own_name(answer: Answering, state: str) -> None:
    document = ViewCache(api(answer), 1.5).document()
    assert (document["state"], document["view"], document["age"]) == (state, None, None)
    assert document["verdict"]["level"] in {"warn", "bad"}


def test_the_last_good_view_stays_and_its_age_grows_while_the_api_is_down() -> None:
    down = broken(httpx.ConnectError)
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=snapshot()) if len(asked) == 1 else down(request)

    clock = Clock()
    cache = ViewCache(api(answer), 1.5, clock)
    good = cache.document()
    clock.now += 12
    document = cache.document()
    assert (document["state"], document["age"], document["view"]) == ("api_down", 12.0, good["view"])


def test_a_key_that_has_ended_is_shown_nothing_more() -> None:
    answers = iter([httpx.Response(200, json=snapshot()), problem(401, "unauthorized")(httpx.Request("GET", "/"))])
    clock = Clock()
    cache = ViewCache(api(lambda _: next(answers)), 1.5, clock)
    assert cache.document()["view"]
    clock.now += FRESH
    document = cache.document()
    assert (document["state"], document["view"], document["age"]) == ("login", None, None)


def test_keys_do_not_see_each_others_snapshots_and_old_ones_make_room() -> None:
    caches = view_caches(api(problem(401, "unauthorized")), 1.5)
    first = caches("a")
    assert caches("a") is first
    assert caches("b") is not first
    for number in range(KEYS):
        caches(str(number))
    assert caches("a") is not first


def test_polling_leaves_nothing_behind() -> None:
    clock = Clock()
    cache = ViewCache(api(lambda _: httpx.Response(200, json=snapshot())), 1.5, clock)

    def poll(times: int) -> int:
        for _ in range(times):
            clock.now += 1
            assert cache.document()["state"] == "ok"
        gc.collect()
        return sys.getallocatedblocks()

    before = poll(50)
    assert poll(400) - before < 400  # less than one block of memory a poll: nothing is kept
