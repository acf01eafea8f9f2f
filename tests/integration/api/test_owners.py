"""Two users and an admin on one system: each user reaches their own requests only, on every route."""

from __future__ import annotations

import csv
import io
import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import httpx
import pytest
import redis

from api.app import create_app
from api.http import api_keys
from common.settings import load_settings
from tasks.protocol.keys import Keys
from tests.integration.api.conftest import MODELS, TOY, image
from tests.integration.api.test_webhooks import serving
from tests.support.redis_server import RedisServer
from tests.support.roles import roles
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

SECRET = "whsec_" + b64encode(bytes(32)).decode()
ADMIN = "il_the-key-of-the-administrator"
SETTINGS: dict[str, Any] = {
    "MODELS": MODELS,
    "MAX_WAIT": 20,
    "MAX_RETRIES": 0,
    "CACHE_TTL": 60,
    "WEBHOOK_HOSTS": "127.0.0.1",
    "WEBHOOK_SECRET": SECRET,
}
#: What only its owner may see of a request.
CUSTOM_ID = "anns-own-name-for-it"

#: Routes with the id of a request, batch or dead letter; :data:`OF_ANN` says whose.
BY_ID = {
    "GET /inference/<request_id>", "GET /inference/<request_id>/events", "POST /inference/<request_id>/cancel",
    "DELETE /inference/<request_id>", "GET /batch_inference/<batch_id>", "GET /batch_inference/<batch_id>/results",
    "GET /batch_inference/<batch_id>/events", "POST /batch_inference/<batch_id>/cancel",
    "GET /dead_letters/<request_id>",
}  # fmt: skip
READS_FIRST: list[str] = sorted(BY_ID, key=lambda route: ("cancel" in route or "DELETE" in route, route))
LISTS = {"GET /inference", "GET /dead_letters", "GET /ops/snapshot"}
NUMBERS = {"GET /usage", "GET /ops/history", "GET /metrics", "GET /metrics/prometheus"}
SUBMISSIONS = {
    "POST /inference", "POST /batch_inference", "POST /v2/models/<model>/infer",
    "POST /v2/models/<model>/versions/<version>/infer",
}  # fmt: skip
#: Routes that show every caller the same, nothing of it about a request.
SHARED = {
    "GET /",
    "GET /docs", "GET /docs/assets/<path:name>", "GET /favicon.ico", "GET /health", "GET /livez", "GET /readyz",
    "GET /openapi.json", "GET /problems/<code>", "GET /models", "GET /workers/status",
    "GET /queue/status", "GET /v2", "GET /v2/health/live", "GET /v2/health/ready",
    "GET /v2/models/<model>", "GET /v2/models/<model>/ready", "GET /v2/models/<model>/versions/<version>",
    "GET /v2/models/<model>/versions/<version>/ready",
}  # fmt: skip
FOR_ADMINS = {
    "GET /admin/audit", "GET /admin/keys", "POST /admin/keys", "PATCH /admin/keys/<key_id>",
    "DELETE /admin/keys/<key_id>", "PATCH /admin/owners/<owner>",
    "GET /admin/doctor", "POST /admin/lanes/<lane>/pause", "POST /admin/lanes/<lane>/resume",
    "POST /admin/lanes/<lane>/purge", "POST /admin/workers/<worker_id>/restart",
    "POST /admin/workers/<worker_id>/drain", "POST /admin/workers/<worker_id>/resume",
    "POST /admin/workers/<worker_id>/chaos", "POST /admin/models/<model>/scale", "GET /inference/<request_id>/image",
    "POST /dead_letters/<request_id>/requeue", "DELETE /dead_letters/<request_id>",
}  # fmt: skip
PLACES = {
    "model": "toy", "version": "1", "code": "lane_full", "path:name": "index.css", "lane": "low", "worker_id": "toy-1",
    "key_id": "ADMIN_KEY", "owner": "bob",
}  # fmt: skip


@dataclass(frozen=True)
class Callers:
    """A client for each; ``ids`` are what ann has: parameter, or beginning of a path, to id."""

    ann: httpx.Client
    bob: httpx.Client
    admin: httpx.Client
    ids: dict[str, str]


@pytest.fixture(scope="module")
def keys() -> dict[str, tuple[str, str]]:
    return {name: api_keys.make(name) for name in ("ann", "bob")}


@pytest.fixture(scope="module")
def guarded(module_stack: Stack, keys: dict[str, tuple[str, str]]) -> ApiProcess:
    entries = ",".join(entry for _, entry in keys.values())
    module_stack.start_worker(TOY, name="toy-1", arguments=["-c", "4"], **SETTINGS)
    return module_stack.start_api(API_KEYS=entries, ADMIN_KEY=ADMIN, **SETTINGS)


@pytest.fixture(scope="module")
def callers(guarded: ApiProcess, keys: dict[str, tuple[str, str]]) -> Iterator[Callers]:
    def client(key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "the-same"}
        return httpx.Client(base_url=guarded.url, headers=headers, timeout=40)

    with client(keys["ann"][0]) as ann, client(keys["bob"][0]) as bob, client(ADMIN) as admin:
        yield Callers(ann, bob, admin, what_ann_has(ann))


def what_ann_has(ann: httpx.Client) -> dict[str, str]:
    waiting = post(ann, "waits", model_type="resnet18", custom_id=CUSTOM_ID).json()["request_id"]  # nobody serves it
    failed = post(ann, "error", custom_id=CUSTOM_ID).json()
    items = {"requests": [{"data": base64("ok"), "model_type": "toy", "custom_id": CUSTOM_ID}]}
    batch = ann.post("/batch_inference", json=items).json()
    wait_until(lambda: ann.get("/dead_letters").json()["dead_letters"], what="a dead letter")
    dead = failed["instance"].rpartition("/")[2]
    return {"/inference": waiting, "/dead_letters": dead, "/batch_inference": batch["batch_id"]}


def base64(order: str) -> str:
    return b64encode(image(order)).decode()


def post(client: httpx.Client, order: str = "ok", **body: Any) -> httpx.Response:
    wait = {} if body.get("model_type", "toy") == "toy" else {"Prefer": "respond-async"}
    return client.post("/inference", json={"model_type": "toy", "data": base64(order)} | body, headers=wait)


def ask(client: httpx.Client, route: str, name: str, **more: Any) -> httpx.Response:
    """Call a route with ``name`` as its id."""
    method, path = route.split()
    for place, value in (PLACES | {"request_id": name, "batch_id": name}).items():
        path = path.replace(f"<{place}>", value)
    return client.request(method, path, **more)


def test_the_walk_knows_every_route() -> None:
    found = {" ".join(route) for route in roles(create_app(load_settings({"MODELS": "toy"})))}
    assert found == BY_ID | LISTS | NUMBERS | SUBMISSIONS | SHARED | FOR_ADMINS


@pytest.mark.parametrize("route", READS_FIRST)
def test_an_id_of_another_user_is_answered_like_an_unknown_one(callers: Callers, route: str) -> None:
    name = callers.ids["/" + route.split("/")[1]]
    unknown = name[:-6] + "0" * 6
    theirs, nobodys = ask(callers.bob, route, name), ask(callers.bob, route, unknown)
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace(name, "ID") == nobodys.text.replace(unknown, "ID")
    assert {*theirs.headers} == {*nobodys.headers}
    assert ask(callers.bob, route, name, params={"owner": "ann"}).status_code == 404, "the filter is for admins"
    if "/events" not in route:  # of a request that waits, a stream lasts
        for client in (callers.admin, callers.ann):
            assert ask(client, route, name).status_code in {200, 202}


@pytest.mark.parametrize("route", READS_FIRST)
def test_an_id_of_another_user_costs_what_an_unknown_one_does(
    callers: Callers, module_redis: RedisServer, route: str
) -> None:
    """The same commands in Redis, so that timing tells nothing either."""

    def commands(name: str) -> list[str]:
        with redis.Redis.from_url(module_redis.url) as client, client.monitor() as watched:
            ask(callers.bob, route, name)
            client.set("the end", "")
            lines = iter(watched.next_command, None)
            texts = takewhile(lambda text: "the end" not in text, (line["command"] for line in lines))
            return [text.replace(name, "ID") for text in texts if name in text]

    name = callers.ids["/" + route.split("/")[1]]
    assert commands(name) == commands(name[:-6] + "0" * 6) != []


@pytest.mark.parametrize("route", sorted(LISTS))
def test_lists_show_a_user_their_own(callers: Callers, route: str) -> None:
    own = post(callers.bob).json()["request_id"]
    for query in ("", "fresh=1", "owner=ann"):
        text = ask(callers.bob, route, "", params=query).text
        assert not [word for word in (*callers.ids.values(), CUSTOM_ID) if word in text]
    for client in (callers.ann, callers.admin):
        assert CUSTOM_ID in ask(client, route, "", params={"fresh": "1"}).text
    if route != "GET /dead_letters":
        assert own in ask(callers.bob, route, "", params={"fresh": "1"}).text
    if route != "GET /ops/snapshot":
        assert CUSTOM_ID not in ask(callers.admin, route, "", params={"owner": "bob"}).text
        assert CUSTOM_ID in ask(callers.admin, route, "", params={"owner": "ann"}).text


def test_numbers_are_of_a_users_own_requests_and_an_admins_of_all(callers: Callers) -> None:
    for client in (callers.ann, callers.bob, callers.bob):
        assert post(client).status_code == 200
    post(callers.ann, "waits", model_type="resnet18")  # nobody serves it

    def told(client: httpx.Client) -> dict[str, Any]:
        """By source, how many succeeded and, where it is told, were accepted."""
        body = client.get("/ops/snapshot?fresh=1").json()
        past = client.get("/ops/history?minutes=60").json()["history"]
        used = client.get("/usage").json()["usage"]
        sums = {name: sum(row[name] for row in past) for name in ("accepted", "succeeded")}
        again = {name: sum(row[name] for row in body["history"]) for name in sums}
        names = {row["owner"] for row in used} | {row["owner"] for row in body["owners"]}
        today = sum(row["today"]["succeeded"] for row in body["owners"])
        metrics, text = client.get("/metrics").json(), client.get("/metrics/prometheus").text
        scraped = re.findall(r'^inferlane_requests_total\{.*state="succeeded"\} (.*)', text, re.MULTILINE)
        assert metrics["successful_requests"] == sum(map(float, scraped)) == body["ledger"]["succeeded"]
        return {**sums, "settled": sums == again, "ledger": body["ledger"]["succeeded"],
                "usage": sum(row["succeeded"] for row in used), "today": today, "names": names}  # fmt: skip

    def own(client: httpx.Client, name: str) -> bool:
        """Whether everything agrees; workers write the history once a second."""
        listed = client.get("/inference?limit=500").json()["requests"]
        ends = sum(row["state"] == "succeeded" for row in listed)
        seen = told(client)
        assert seen["names"] == {name}
        assert seen["accepted"] == len(listed)
        assert seen["ledger"] == seen["usage"] == seen["today"] == ends > 0
        return bool(seen["settled"] and seen["succeeded"] == ends)

    for name, client in users(callers):
        wait_until(lambda client=client, name=name: own(client, name), what=f"the history of {name}")  # type: ignore[misc]
    ann, bob, everybody = told(callers.ann), told(callers.bob), told(callers.admin)
    assert everybody["names"] >= {"ann", "bob"}
    assert everybody["succeeded"] == ann["succeeded"] + bob["succeeded"] > max(ann["succeeded"], bob["succeeded"])
    rows = {row["owner"]: row for row in callers.admin.get("/ops/snapshot?fresh=1").json()["owners"]}
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    assert rows["anonymous"]["rate_out"] == pytest.approx(0)
    assert rows["bob"]["rate_out"] > 0
    assert rows["ann"]["queued"] >= 1
    assert rows["bob"]["queued"] == callers.bob.get("/metrics").json()["queue_size"] == 0
    assert callers.ann.get("/metrics").json()["queue_size"] >= 1


@pytest.mark.parametrize("route", sorted(SHARED))
def test_what_all_callers_see_is_not_about_requests(callers: Callers, route: str) -> None:
    answer = ask(callers.bob, route, "")
    assert answer.status_code in ({302} if route == "GET /" else {200, 304})
    assert not [word for word in (*callers.ids.values(), CUSTOM_ID) if word in answer.text]


@pytest.mark.parametrize("route", sorted(FOR_ADMINS))
def test_routes_of_admins_are_closed_to_users(callers: Callers, route: str) -> None:
    for name in (callers.ids["/inference"], callers.ids["/dead_letters"], "nobodys"):
        assert ask(callers.bob, route, name).status_code == 403


def test_an_admin_sees_image_and_dead_letter_of_a_user(callers: Callers) -> None:
    dead = callers.ids["/dead_letters"]
    assert callers.admin.get(f"/inference/{dead}/image").content == image("error")
    assert callers.admin.get(f"/dead_letters/{dead}").json()["owner"] == "ann"


def test_the_same_request_id_of_two_owners_is_two_requests(callers: Callers) -> None:
    answers = {name: post(client, f"{name}s", request_id="mine").json() for name, client in users(callers)}
    for name, client in users(callers):
        found = client.get("/inference/mine").json()
        assert (found["request_id"], found["owner"]) == ("mine", name)
        assert found["predictions"] == answers[name]["predictions"]
        assert [row["request_id"] for row in client.get("/inference?request_id=min").json()["requests"]] == ["mine"]
    refusal = callers.admin.get("/inference/mine")
    assert (refusal.status_code, refusal.json()["errors"][0]["detail"]) == (422, "must be one of ann, bob")
    assert callers.admin.get("/inference/mine?owner=bob").json()["owner"] == "bob"


def test_the_same_idempotency_key_of_two_owners_is_two_requests_and_batches(callers: Callers) -> None:
    for path, body in (("/inference", {"data": base64("ok"), "model_type": "toy"}),
                       ("/batch_inference", {"requests": [{"data": base64("ok"), "model_type": "toy"}]})):  # fmt: skip
        for _, client in users(callers):
            first, again = (client.post(path, json=body, headers={"Idempotency-Key": "once"}) for _ in range(2))
            assert (first.status_code, "Idempotent-Replayed" in first.headers) == (200, False), first.text
            assert again.headers["Idempotent-Replayed"] == "true"


def test_a_cached_answer_is_shared_within_an_owner_only(callers: Callers) -> None:
    for _, client in users(callers):
        assert [post(client, "to be shared").json()["cached"] for _ in range(2)] == [False, True]


def test_a_batch_is_its_owners(callers: Callers) -> None:
    items = {"requests": [{"data": base64("ok"), "model_type": "toy"}, {"data": "!"}]}
    batch = callers.bob.post("/batch_inference", json=items).json()
    assert (batch["owner"], batch["counts"]["succeeded"], batch["counts"]["rejected"]) == ("bob", 1, 1)
    item = batch["results"][0]["request_id"]
    assert item == f"{batch['batch_id']}.0"
    assert callers.bob.get(f"/inference/{item}").json()["batch_id"] == batch["batch_id"]
    assert callers.ann.get(f"/inference/{item}").status_code == 404


@pytest.mark.parametrize("path", ["/v2/models/toy/infer", "/v2/models/toy/versions/1/infer"])
def test_requests_of_the_open_inference_protocol_are_the_callers(callers: Callers, path: str) -> None:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [base64("ok"), base64("ok")]}
    before = listed(callers.bob)
    assert callers.bob.post(path, json={"id": "x", "inputs": [tensor]}).status_code == 200
    fresh = listed(callers.bob) - before
    assert len(fresh) == 2
    assert not fresh & listed(callers.ann)
    assert fresh <= listed(callers.admin)


def test_webhooks_of_two_owners_with_the_same_ids_are_both_sent(callers: Callers) -> None:
    with serving() as receiver:
        for name, client in users(callers):
            post(client, f"{name}s", request_id="told", callback_url=receiver.url)
            items = [{"data": base64("ok"), "model_type": "toy"}]
            body = {"requests": items, "callback_url": receiver.url}
            assert client.post("/batch_inference", json=body, headers={"Idempotency-Key": "told"}).status_code == 200
        wait_until(lambda: len(receiver.got) >= 4, 20, what="all webhooks")
    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    told = Counter(json.loads(body)["data"]["owner"] for _, body in receiver.got)
    assert (len(ids), told) == (4, {"ann": 2, "bob": 2})


def test_a_user_pages_through_their_own_among_many_of_others(
    callers: Callers, module_stack: Stack, module_redis: RedisServer
) -> None:
    index = Keys(module_stack.settings().key_prefix)
    ids = [post(callers.bob, f"number {number}").json()["request_id"] for number in range(5)]
    for _ in range(3):
        post(callers.ann)
    found: list[str] = []
    page = callers.bob.get("/inference?limit=2&model_type=toy").json()
    while page["next_cursor"] and len(found) < 5:
        found += [row["request_id"] for row in page["requests"]]
        page = callers.bob.get(f"/inference?limit=2&model_type=toy&cursor={page['next_cursor']}").json()
    assert found[:5] == ids[::-1]
    with redis.Redis.from_url(module_redis.url) as client:
        assert 0 < client.zcard(index.recent_of("bob")) < client.zcard(index.recent)


def test_an_id_that_has_expired_is_gone_for_its_owner_and_unknown_to_others(
    callers: Callers, module_stack: Stack, keys: dict[str, tuple[str, str]]
) -> None:
    entries = ",".join(entry for _, entry in keys.values())
    forgetful = module_stack.start_api(API_KEYS=entries, **SETTINGS | {"RESULT_TTL": 1})
    post(callers.ann, request_id="short", model_type="resnet18")
    ann, bob = ({"X-API-Key": key} for key, _ in keys.values())
    assert forgetful.client.delete("/inference/short", headers=ann).status_code == 200

    def status(headers: dict[str, str]) -> int:
        return forgetful.client.get("/inference/short", headers=headers).status_code

    wait_until(lambda: status(ann) == 410, 10, what="the end of the record")
    assert status(bob) == 404
    assert callers.admin.get("/inference/short").status_code == 410


def test_without_a_key_there_are_no_metrics_but_where_they_are_open(
    callers: Callers, guarded: ApiProcess, module_stack: Stack, keys: dict[str, tuple[str, str]]
) -> None:
    for path in ("/metrics", "/metrics/prometheus"):
        assert httpx.get(guarded.url + path).status_code == 401
        assert callers.bob.get(path).status_code == 200
    opened = module_stack.start_api(API_KEYS=keys["ann"][1], METRICS_OPEN=1, **SETTINGS)
    assert opened.client.get("/metrics/prometheus").status_code == 200
    assert opened.client.get("/inference").status_code == 401


def users(callers: Callers) -> list[tuple[str, httpx.Client]]:
    return [("ann", callers.ann), ("bob", callers.bob)]


def listed(client: httpx.Client) -> set[str]:
    return {row["request_id"] for row in client.get("/inference?limit=500").json()["requests"]}


def test_usage_shows_a_user_their_own(callers: Callers) -> None:
    def owners(client: httpx.Client, **query: str) -> set[str]:
        answer = client.get("/usage", params=query)
        assert answer.status_code == 200, answer.text
        return {row["owner"] for row in answer.json()["usage"]}

    for client in (callers.ann, callers.bob):
        post(client)
    assert owners(callers.bob) == owners(callers.bob, owner="ann") == {"bob"}
    assert owners(callers.admin) == {"ann", "bob"}
    assert owners(callers.admin, owner="ann") == {"ann"}
    assert callers.bob.get("/usage", params={"days": "36"}).status_code == 422
    for given in ({"params": {"format": "csv"}}, {"headers": {"Accept": "text/csv"}}):
        (row,) = csv.DictReader(io.StringIO(callers.bob.get("/usage", **given).text))
        assert (row["owner"], row["model"]) == ("bob", "toy")
        assert int(row["requests"]) == int(row["images"]) >= int(row["succeeded"]) >= 1
