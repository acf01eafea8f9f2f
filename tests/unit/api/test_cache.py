"""Identical images share an answer when the cache is on, and only then."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.http import api_keys
from tasks.protocol.requests import State
from tests.unit.api import samples
from tests.unit.api.fakes import FakeQueue, ended, worker_row
from tests.unit.api.test_inference import post, refused


@pytest.fixture
def caching(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(CACHE_TTL=60).test_client()


def cached(client: FlaskClient, body: dict[str, Any] | None = None, **more: Any) -> bool:
    return bool(post(client, body, **more).get_json()["cached"])


def test_the_second_identical_image_is_answered_without_inference(caching: FlaskClient, queue: FakeQueue) -> None:
    first, second = post(caching, {"custom_id": "a"}).get_json(), post(caching, {"custom_id": "b"}).get_json()
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["predictions"] == second["predictions"]
    assert (first["custom_id"], second["custom_id"]) == ("a", "b")
    assert len(queue.submitted) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"data": base64.b64encode(samples.png(9, 9)).decode()},
        {"model_type": "any"},
        {"top_k": 1},
        {"priority": "high"},
        {"deadline": 5},
        {"request_id": "own"},
    ],
)
def test_what_differs_is_not_shared(caching: FlaskClient, queue: FakeQueue, change: dict[str, Any]) -> None:
    post(caching)
    assert not cached(caching, change)
    assert len(queue.submitted) == 2


def test_other_weights_are_another_answer(caching: FlaskClient, queue: FakeQueue, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.features.cache.FRESH", 0.0)
    post(caching)
    queue.rows = [worker_row("answers-2@host", "answers", weights="better")]
    assert not cached(caching)


def test_a_caller_may_ask_for_an_answer_of_its_own(caching: FlaskClient) -> None:
    post(caching)
    assert not cached(caching, headers={"Cache-Control": "no-cache"})


def test_it_is_off_by_default(client: FlaskClient, queue: FakeQueue) -> None:
    post(client)
    assert not cached(client)
    assert len(queue.submitted) == 2


def test_a_failure_is_told_once_and_never_shared(caching: FlaskClient, queue: FakeQueue) -> None:
    for _ in range(2):
        refused(post(caching, {"model_type": "fails"}), 422, "truncated_image")
    assert len(queue.submitted) == 2


def test_a_twin_whose_leader_was_canceled_runs_by_itself(caching: FlaskClient, queue: FakeQueue) -> None:
    post(caching, {"model_type": "sleeps"}, headers={"Prefer": "respond-async"})
    (leader,) = queue.kept.values()
    queue.kept[leader.id] = ended(leader, State.CANCELED)
    second = post(caching, {"model_type": "sleeps"}, headers={"Prefer": "wait=1"})
    assert second.status_code == 202
    assert second.get_json()["request_id"] != leader.id


def test_async_twins_get_requests_that_each_may_cancel(caching: FlaskClient, queue: FakeQueue) -> None:
    wishes = {"headers": {"Prefer": "respond-async"}}
    names = [post(caching, {"model_type": "sleeps"}, **wishes).get_json()["request_id"] for _ in range(3)]
    assert len(set(names)) == 3
    for canceled in names[1:]:
        assert caching.delete(f"/inference/{canceled}").get_json()["state"] == "canceled"
    assert queue.kept[names[0]].state is State.QUEUED


def test_a_twin_that_has_waited_in_vain_gets_its_own_request(caching: FlaskClient, queue: FakeQueue) -> None:
    first = post(caching, {"model_type": "sleeps"}, headers={"Prefer": "wait=1"}).get_json()["request_id"]
    second = post(caching, {"model_type": "sleeps"}, headers={"Prefer": "wait=1"}).get_json()["request_id"]
    caching.delete(f"/inference/{second}")
    assert (queue.kept[first].state, queue.kept[second].state) == (State.QUEUED, State.CANCELED)


def test_an_answer_that_is_there_is_given_to_async_callers_too(caching: FlaskClient, queue: FakeQueue) -> None:
    post(caching)
    assert cached(caching, headers={"Prefer": "respond-async"})
    assert len(queue.submitted) == 1


def test_the_answers_of_one_key_are_not_anothers(make_app: Callable[..., Flask], queue: FakeQueue) -> None:
    (ann, ann_entry), (bob, bob_entry) = api_keys.make("ann", "user"), api_keys.make("bob", "user")
    client = make_app(CACHE_TTL=60, API_KEYS=f"{ann_entry},{bob_entry}").test_client()
    found = [cached(client, headers={"X-API-Key": key}) for key in (ann, bob, ann, bob)]
    assert found == [False, False, True, True]
    assert len(queue.submitted) == 2
