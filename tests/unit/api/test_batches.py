"""``/batch_inference``: one bad item fails alone, and the batch can be followed, read and canceled."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.unit.api import samples
from tests.unit.api.fakes import FakeQueue, ended
from tests.unit.api.test_inference import refused

PNG = samples.png()
GOOD = {"data": base64.b64encode(PNG).decode(), "model_type": "answers"}
ASYNC = {"Prefer": "respond-async"}


def post(client: FlaskClient, items: list[Any], **more: Any) -> TestResponse:
    return client.post("/batch_inference", json={"requests": items}, **more)


def test_a_bad_item_fails_alone(client: FlaskClient, queue: FakeQueue) -> None:
    items = [
        GOOD | {"custom_id": "a"},
        {"data": "!!", "custom_id": "b"},
        7,
        {"data": base64.b64encode(b"text").decode()},
        GOOD | {"model_type": "gpt"},
        GOOD | {"model_type": "full"},
        GOOD | {"model_type": "fails"},
        GOOD | {"top_k": 1},
    ]
    response = post(client, items)
    assert response.status_code == 200
    body = response.get_json()
    assert body["counts"] == {
        "total": 8, "queued": 0, "running": 0, "succeeded": 2, "failed": 1, "canceled": 0, "expired": 0, "rejected": 5,
        "purged": 0,
    }  # fmt: skip
    assert [item["status"] for item in body["results"]] == ["success", *["failed"] * 6, "success"]
    codes = [item["error"] and item["error"]["code"] for item in body["results"]]
    assert codes == [
        None, "invalid_base64", "invalid_parameters", "unsupported_image", "unknown_model", "lane_full",
        "truncated_image", None,
    ]  # fmt: skip
    assert [item["custom_id"] for item in body["results"]][:3] == ["a", "b", None]
    assert len(body["results"][7]["predictions"]) == 1
    assert all(sent.batch_id == body["batch_id"] for sent in queue.submitted)


def test_items_inherit_from_the_batch(client: FlaskClient, queue: FakeQueue) -> None:
    items = [{"data": GOOD["data"]}, GOOD | {"priority": "low"}]
    client.post("/batch_inference", json={"requests": items, "model_type": "sleeps", "priority": "high"}, headers=ASYNC)
    assert [(s.model_type, s.priority) for s in queue.submitted] == [("sleeps", "high"), ("answers", "low")]


def test_many_files_in_a_form(client: FlaskClient, queue: FakeQueue) -> None:
    files = [(io.BytesIO(PNG), "one.png"), (io.BytesIO(b"text"), "two.png"), (io.BytesIO(PNG), "three.png")]
    response = client.post("/batch_inference", data={"image": files, "model_type": "answers"})
    results = response.get_json()["results"]
    assert [(r["custom_id"], r["status"]) for r in results] == [
        ("one.png", "success"), ("two.png", "failed"), ("three.png", "success"),
    ]  # fmt: skip
    assert {sent.model_type for sent in queue.submitted} == {"answers"}


def test_a_batch_that_has_not_ended_is_202_and_can_be_followed(client: FlaskClient, queue: FakeQueue) -> None:
    response = post(client, [GOOD, GOOD | {"model_type": "sleeps"}, {"data": "!!"}])
    assert response.status_code == 202
    path = response.headers["Location"]
    assert client.get(path).get_json()["counts"]["queued"] == 1
    sleeper = next(r for r in queue.kept.values() if r.model_type == "sleeps")
    queue.kept[sleeper.id] = ended(sleeper)
    first = client.get(path)
    assert first.get_json()["status"] == "completed"
    assert client.get(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    lines = [json.loads(line) for line in client.get(f"{path}/results").text.splitlines()]
    assert [line["status"] for line in lines] == ["succeeded", "succeeded", "rejected"]


def test_respond_async_does_not_wait(client: FlaskClient) -> None:
    response = post(client, [GOOD], headers=ASYNC)
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "respond-async")


def test_purged_records_are_counted_as_purged(client: FlaskClient, queue: FakeQueue) -> None:
    path = post(client, [GOOD, GOOD]).get_json()["urls"]["self"]
    queue.kept.popitem()
    assert client.get(path).get_json()["counts"]["purged"] == 1


def test_cancel_ends_what_has_not_ended(client: FlaskClient) -> None:
    response = post(client, [GOOD, GOOD | {"model_type": "sleeps"}], headers=ASYNC)
    path = response.headers["Location"]
    body = client.post(f"{path}/cancel").get_json()
    assert (body["counts"]["succeeded"], body["counts"]["canceled"]) == (1, 1)
    assert client.post(f"{path}/cancel").status_code == 200


def test_the_same_key_replays_the_batch(client: FlaskClient, queue: FakeQueue) -> None:
    items, key = [GOOD, {"data": "!!"}, GOOD], {"Idempotency-Key": "b1"}
    first, again = (post(client, items, headers=key) for _ in range(2))
    assert first.get_json()["batch_id"] == again.get_json()["batch_id"]
    assert first.get_json()["created_at"] == again.get_json()["created_at"]
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert len(queue.submitted) == 2


@pytest.mark.parametrize(
    "others", [[GOOD], [GOOD] * 3, [GOOD, GOOD | {"top_k": 1}], [GOOD, {"data": "!!"}]],
    ids=["fewer", "more", "another", "a bad one"],
)  # fmt: skip
def test_other_items_under_the_key_are_a_conflict_and_change_nothing(
    client: FlaskClient, queue: FakeQueue, others: list[dict[str, Any]]
) -> None:
    key = {"Idempotency-Key": "b1"}
    first = post(client, [GOOD, GOOD], headers=key).get_json()
    refused(post(client, others, headers=key), 422, "idempotency_conflict")
    assert len(queue.submitted) == 2
    assert client.get(first["urls"]["self"]).get_json()["counts"] == first["counts"]


def test_redis_down_refuses_the_whole_batch(client: FlaskClient, queue: FakeQueue) -> None:
    queue.down = True
    refused(post(client, [GOOD]), 503, "broker_unavailable")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"requests": []}, "requests"),
        ({"requests": "x"}, "requests"),
        ({}, "requests"),
        ({"requests": [GOOD] * 257}, "requests"),
        ({"requests": [GOOD], "priority": "x"}, "priority"),
    ],
)
def test_a_batch_that_is_wrong_as_a_whole(client: FlaskClient, body: dict[str, Any], name: str) -> None:
    problem = refused(client.post("/batch_inference", json=body), 422, "invalid_parameters")
    assert problem["errors"][0]["name"] == name


def test_other_bodies_and_unknown_batches(client: FlaskClient) -> None:
    response = client.post("/batch_inference", data=PNG, content_type="image/png")
    refused(response, 415, "unsupported_media_type")
    assert response.headers["Accept-Post"] == "application/json, multipart/form-data"
    for path in ("/batch_inference/x", "/batch_inference/x/results"):
        refused(client.get(path), 404, "unknown_batch")
