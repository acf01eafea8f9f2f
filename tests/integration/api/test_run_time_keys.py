"""Keys made, changed and revoked at run time, in both processes of a real API; and the audit log of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import psutil
import pytest
import redis

from api.features import audit
from api.http import api_keys
from common.settings import load_settings
from dashboard.api_client import ApiClient
from dashboard.app import create_app
from dashboard.routes import HEADER, backend_for
from tasks.protocol.keys import Keys
from tests.integration.api.conftest import MODELS, TOY, image
from tests.integration.test_serving import children
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

ADMIN = "il_the-key-of-the-administrator"
USER, ENTRY = api_keys.make("ann")
SETTINGS = {"MODELS": MODELS, "AUTH": "on", "ADMIN_KEY": ADMIN}
#: A route that asks for a key and needs no Redis.
PLAIN = "/v2"


class Pair:
    """The two processes of an API, each with a connection of its own."""

    def __init__(self, api: ApiProcess, stack: ExitStack) -> None:
        clients: dict[int, httpx.Client] = {}

        def connected() -> bool:
            client = stack.enter_context(httpx.Client(base_url=api.url, timeout=20))
            clients.setdefault(process_behind(api, client), client)
            return len(clients) == 2

        wait_until(connected, 20, what="a connection to each process")
        self.clients = list(clients.values())

    def statuses(self, key: str, method: str = "GET", path: str = PLAIN) -> list[int]:
        """What each process answers to this key."""
        return [client.request(method, path, headers=bearer(key)).status_code for client in self.clients]

    def admin(self, method: str, path: str, **body: Any) -> httpx.Response:
        """A call by the administrator, to the first process."""
        return self.clients[0].request(method, path, json=body or None, headers=bearer(ADMIN))

    def create(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self.admin("POST", "/admin/keys", name=name, **body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def listed(self) -> dict[str, dict[str, Any]]:
        return {key["id"]: key for key in self.admin("GET", "/admin/keys").json()["keys"]}


def process_behind(api: ApiProcess, client: httpx.Client) -> int:
    """The process that has this client's connection."""
    port = client.get("/livez").extensions["network_stream"].get_extra_info("client_addr")[1]
    return next(
        child.pid for child in children(api) for item in connections(child) if item.raddr and item.raddr.port == port
    )


def connections(process: psutil.Process) -> list[Any]:
    return list(process.net_connections("tcp"))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def api(module_stack: Stack) -> ApiProcess:
    module_stack.start_worker(TOY, name="toy-1", **SETTINGS)
    return module_stack.start_api(workers=2, API_KEYS=ENTRY + ":2", **SETTINGS)


@pytest.fixture(scope="module")
def pair(api: ApiProcess) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(api, stack)


def test_a_new_key_is_valid_at_once_in_every_process(pair: Pair) -> None:
    for role, status in (("user", 403), ("admin", 200)):
        key = pair.create("bob", role=role)["key"]
        assert pair.statuses(key) == [200, 200]
        assert pair.statuses(key, path="/admin/keys") == [status, status]


def test_a_large_body_with_a_new_key_is_read_by_the_process_that_has_not_seen_the_key(pair: Pair) -> None:
    for _ in range(3):
        headers = bearer(pair.create("bob")["key"]) | {"Content-Type": "image/gif"}
        answer = pair.clients[1].post("/inference", content=image("ok" + " " * 300_000), headers=headers)
        assert answer.status_code == 200, answer.text


def test_a_revoked_key_ends_within_a_second_in_every_process(pair: Pair) -> None:
    def seconds() -> float:
        made = pair.create("bob")
        assert pair.statuses(made["key"]) == [200, 200]
        assert pair.admin("DELETE", f"/admin/keys/{made['id']}").status_code == 204
        revoked = time.monotonic()
        wait_until(lambda: pair.statuses(made["key"]) == [401, 401], interval=0.1, what="the end of the key")
        return time.monotonic() - revoked

    assert min(seconds() for _ in range(3)) < 1.0  # the least, because the machine may be busy


def test_a_role_changes_in_every_process(pair: Pair) -> None:
    made = pair.create("bob")
    for role, status in (("admin", 200), ("user", 403)):
        assert pair.admin("PATCH", f"/admin/keys/{made['id']}", role=role).json()["role"] == role
        wait_until(lambda: pair.statuses(made["key"], path="/admin/keys") == [status] * 2, what=f"the role {role}")  # noqa: B023 - awaited here


def test_a_user_rotates_keys_and_keeps_the_requests(pair: Pair) -> None:
    old, new = (pair.create("zoe") for _ in range(2))
    waiting = {"params": {"model_type": "resnet18"}, "content": image(), "headers": {"Content-Type": "image/gif"}}
    waiting["headers"] |= {"Prefer": "respond-async", **bearer(old["key"])}
    place = pair.clients[0].post("/inference", **waiting).headers["Location"]
    pair.admin("DELETE", f"/admin/keys/{old['id']}")
    wait_until(lambda: pair.statuses(old["key"]) == [401, 401], interval=0.1, what="the end of the old key")
    found = pair.clients[1].get(place, headers=bearer(new["key"])).json()
    assert (found["owner"], found["status"]) == ("zoe", "queued")


def test_the_list_has_all_keys_and_those_of_the_settings_are_not_revocable(pair: Pair) -> None:
    made = pair.create("carl", weight=3)
    rows = pair.listed()
    assert (rows[made["id"]]["source"], rows[made["id"]]["created_by"], rows[made["id"]]["weight"]) == (
        "run_time",
        "admin",
        3,
    )
    fixed = {key["name"]: key for key in rows.values() if key["source"] == "settings"}
    assert {name: key["role"] for name, key in fixed.items()} == {"admin": "admin", "ann": "user"}
    assert "key" not in rows[made["id"]]
    assert "digest" not in rows[made["id"]]
    for key in fixed.values():
        for answer in (pair.admin("DELETE", f"/admin/keys/{key['id']}"),
                       pair.admin("PATCH", f"/admin/keys/{key['id']}", role="admin")):  # fmt: skip
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameters")
    assert pair.statuses(USER) == [200, 200]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/admin/keys", {"name": "anonymous"}, 422),
        ("POST", "/admin/keys", {"name": "a/b"}, 422),
        ("POST", "/admin/keys", {"name": ".."}, 422),
        ("POST", "/admin/keys", {"role": "user"}, 422),
        ("POST", "/admin/keys", {"name": "eve", "role": "root"}, 422),
        ("POST", "/admin/keys", {"name": "eve", "role": ["user"]}, 422),
        ("POST", "/admin/keys", {"name": "eve", "weight": 0}, 422),
        ("POST", "/admin/keys", {"name": "eve", "weight": True}, 422),
        ("DELETE", "/admin/keys/0123456789abcdef", {}, 404),
        ("PATCH", "/admin/keys/0123456789abcdef", {"role": "user"}, 404),
        ("PATCH", "/admin/owners/eve", {"weight": 2}, 404),
        ("PATCH", "/admin/owners/ann", {"weight": "2"}, 422),
        ("PATCH", "/admin/owners/ann", {"weight": 5, "cap": -1}, 422),
        ("PATCH", "/admin/owners/ann", {"quota": 1.5}, 422),
        ("POST", "/admin/keys", {"name": "eve", "cap": "many"}, 422),
    ],
)
def test_a_wrong_order_changes_nothing(pair: Pair, method: str, path: str, body: dict[str, Any], status: int) -> None:
    before = {name: {**key, "last_used_at": None} for name, key in pair.listed().items()}
    answer = pair.admin(method, path, **body)
    assert answer.status_code == status, answer.text
    assert {name: {**key, "last_used_at": None} for name, key in pair.listed().items()} == before


def test_uses_are_shown_and_cost_calls_nothing(pair: Pair, module_redis: RedisServer) -> None:
    made = pair.create("bob")
    assert pair.listed()[made["id"]]["last_used_at"] is None
    with redis.Redis.from_url(module_redis.url) as client:
        client.config_resetstat()
        for _ in range(200):
            assert pair.statuses(made["key"]) == [200, 200]
        commands = {name: row["calls"] for name, row in client.info("commandstats").items()}
    assert sum(calls for name, calls in commands.items() if "hset" in name) < 40, commands
    wait_until(lambda: pair.listed()[made["id"]]["last_used_at"], what="the last use")
    assert pair.listed()[made["id"]]["last_used_at"] > made["created_at"]


def test_a_weight_set_at_run_time_outlives_a_start_with_another_in_the_settings(
    pair: Pair, module_stack: Stack, module_redis: RedisServer
) -> None:
    keys = Keys(module_stack.settings().key_prefix)
    asked = {"params": {"model_type": "resnet18"}, "content": image(), "headers": {"Content-Type": "image/gif"}}
    asked["headers"] |= {"Prefer": "respond-async", **bearer(USER)}
    with redis.Redis.from_url(module_redis.url) as client:
        pair.clients[0].post("/inference", **asked).raise_for_status()
        assert pair.admin("PATCH", "/admin/owners/ann", weight=7).json()["weight"] == 7
        assert float(client.hget(keys.owner_weights, "ann")) == 7
        again = module_stack.start_api(API_KEYS=ENTRY + ":2", **SETTINGS)
        again.client.post("/inference", **asked).raise_for_status()
        assert float(client.hget(keys.owner_weights, "ann")) == 7
        reset = again.client.patch("/admin/owners/ann", json={"weight": None}, headers=bearer(ADMIN)).json()
        assert reset["weight"] == float(client.hget(keys.owner_weights, "ann")) == 2


def test_a_cap_and_a_quota_are_those_of_the_owner_until_they_are_taken_back(pair: Pair) -> None:
    made = pair.create("max", cap=1)
    assert (made["cap"], made["quota"]) == (1, None)
    headers = bearer(made["key"]) | {"Content-Type": "image/gif", "Prefer": "respond-async"}

    def status(number: int) -> int:
        asked = {"params": {"model_type": "resnet18"}, "content": image(f"{number}"), "headers": headers}
        return pair.clients[number % 2].post("/inference", **asked).status_code

    assert status(0) == 202
    wait_until(lambda: [status(1), status(2)] == [429, 429], what="the cap")
    taken_back = pair.admin("PATCH", "/admin/owners/max", cap=None, quota=0).json()
    assert taken_back == {"owner": "max", "weight": 1.0, "cap": None, "quota": 0}
    wait_until(lambda: [status(1), status(2)] == [202, 202], what="no cap")


def test_without_redis_known_keys_go_on_and_of_others_nothing_is_said(stack: Stack, own_redis: RedisServer) -> None:
    api = stack.start_api(**SETTINGS)
    made = api.client.post("/admin/keys", json={"name": "bob"}, headers=bearer(ADMIN)).json()

    def status(one: ApiProcess, key: str) -> int:
        return one.client.get(PLAIN, headers=bearer(key)).status_code

    assert status(api, made["key"]) == 200
    own_redis.stop()
    late = stack.start_api(**SETTINGS)
    assert [status(api, key) for key in (made["key"], ADMIN)] == [200, 200]
    assert [status(late, key) for key in (made["key"], ADMIN)] == [503, 200]
    for export in ("json", "ndjson"):
        assert api.client.get(f"/admin/audit?format={export}", headers=bearer(ADMIN)).status_code == 503
    for _ in range(40):  # more than there may be wrong ones
        answer = late.client.get(PLAIN, headers=bearer(made["key"]))
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
    own_redis.start()
    wait_until(lambda: status(late, made["key"]) == 200, what="the key in the process that had not read it")
    wait_until(lambda: status(late, "il_guessed") == 401, what="an unknown key is unknown again")


def test_a_revoked_key_that_goes_on_is_limited_like_a_guessed_one(stack: Stack) -> None:
    api = stack.start_api(**SETTINGS)
    made = api.client.post("/admin/keys", json={"name": "bob"}, headers=bearer(ADMIN)).json()
    assert api.client.get(PLAIN, headers=bearer(made["key"])).status_code == 200
    assert api.client.delete(f"/admin/keys/{made['id']}", headers=bearer(ADMIN)).status_code == 204
    last = lambda: api.client.get(PLAIN, headers=bearer(made["key"])).status_code  # noqa: E731
    wait_until(lambda: last() == 429, what="a limit")
    assert api.client.get(PLAIN, headers=bearer(ADMIN)).status_code == 200
    fresh = bearer(api.client.post("/admin/keys", json={"name": "bob"}, headers=bearer(ADMIN)).json()["key"])
    wait_until(
        lambda: api.client.get(PLAIN, headers=fresh).status_code == 200, 3, what="the new key of the same caller"
    )


def test_an_open_api_stays_open_and_says_so(stack: Stack) -> None:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    api = stack.start_api(MODELS=MODELS, ADMIN_KEY=ADMIN)
    made = api.client.post("/admin/keys", json={"name": "bob"}, headers=bearer(ADMIN)).json()
    assert made["keys_required"] is False
    for headers in ({}, bearer(made["key"])):
        answer = api.client.post("/inference", content=image(), headers={"Content-Type": "image/gif", **headers})
        assert (answer.status_code, answer.json()["owner"]) == (200, "anonymous")
    assert api.client.get("/inference", headers=bearer("il_guessed")).status_code == 401


def test_a_run_time_key_logs_in_to_the_dashboard_until_it_is_revoked(pair: Pair, api: ApiProcess) -> None:
    made = pair.create("bob")
    settings, caller = load_settings({"MODELS": MODELS}), ApiClient(api.url)
    page = create_app(settings, backend_for(settings, caller)).server.test_client()

    def logged_in() -> int:
        return page.post("/ui/login", json={"key": made["key"]}, headers={HEADER: "1"}).status_code

    with caller._http:
        assert logged_in() == 200
        assert page.get("/ui/requests").status_code == 200
        pair.admin("DELETE", f"/admin/keys/{made['id']}")
        wait_until(
            lambda: page.get("/ui/requests").status_code == 401, interval=0.1, what="the session's key has ended"
        )
        assert logged_in() == 401


class TestAudit:
    def test_it_has_every_administrative_call_and_no_key(self, pair: Pair, module_redis: RedisServer) -> None:
        made = pair.create("eve", role="admin", weight=2)
        pair.clients[1].post("/admin/lanes/low/pause", headers=bearer(made["key"]))
        pair.clients[1].post("/admin/lanes/low/resume", headers=bearer(made["key"]))
        pair.clients[0].post("/admin/lanes/low/pause", headers=bearer(USER))
        pair.clients[0].post("/admin/lanes/low/pause", headers=bearer("il_guessed-by-somebody"))
        pair.clients[0].post("/admin/lanes/low/pause")
        pair.admin("DELETE", f"/admin/keys/{made['key']}")  # the key itself, by mistake
        pair.admin("DELETE", f"/admin/keys/{made['id']}")
        page = pair.admin("GET", "/admin/audit?limit=8").json()
        told = [(entry["name"], entry["method"], entry["path"], entry["status"]) for entry in page["entries"]]
        assert told == [
            ("admin", "DELETE", f"/admin/keys/{made['id']}", 204),
            ("admin", "DELETE", "/admin/keys/il_...", 404),
            ("", "POST", "/admin/lanes/low/pause", 401),
            ("", "POST", "/admin/lanes/low/pause", 401),
            ("ann", "POST", "/admin/lanes/low/pause", 403),
            ("eve", "POST", "/admin/lanes/low/resume", 200),
            ("eve", "POST", "/admin/lanes/low/pause", 200),
            ("admin", "POST", "/admin/keys", 201),
        ]
        created = page["entries"][-1]
        assert created["body"] == {"name": "eve", "role": "admin", "weight": 2, "id": made["id"]}
        assert (created["key_id"], created["route"], created["address"]) == ("ADMIN_KEY", "/admin/keys", "127.0.0.1")
        assert page["entries"][-2]["key_id"] == made["id"]
        assert page["entries"][0]["body"] == {"name": "eve"}, "whose key it was"
        with redis.Redis.from_url(module_redis.url) as client:
            client.config_set("rdbcompression", "no")
            kept = b"".join(client.dump(name) or b"" for name in client.scan_iter())
        for key in (made["key"], USER, ADMIN, "il_guessed-by-somebody"):
            assert key.encode() not in kept

    def test_pages_and_the_export_have_the_same_entries(self, pair: Pair) -> None:
        found: list[dict[str, Any]] = []
        cursor = ""
        while cursor is not None:
            answer = pair.admin("GET", f"/admin/audit?limit=3&cursor={cursor}").json()
            found += answer["entries"]
            cursor = answer["next_cursor"]
        for more in ({"params": {"format": "ndjson"}}, {"headers": {"Accept": "application/x-ndjson"} | bearer(ADMIN)}):
            answer = pair.clients[0].get("/admin/audit", **{"headers": bearer(ADMIN), **more})
            assert answer.headers["Content-Type"].startswith("application/x-ndjson")
            exported = [json.loads(line) for line in answer.text.splitlines()]
            older = [entry for entry in exported if entry["at"] <= found[0]["at"]]
            assert older[-len(found) + 1 :] == found[1:]  # the first entry is a reading of the log itself
        for wrong in ("cursor=x", "cursor=1-1)", "limit=0", "format=xml"):
            assert pair.admin("GET", f"/admin/audit?{wrong}").status_code == 422

    def test_it_is_bounded_and_refused_calls_push_no_order_out(
        self, empty_redis: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(audit, "KEPT", 300)
        log = audit.Audit(load_settings({"REDIS_URL": empty_redis}))
        entry = {"name": "a", "method": "POST", "path": "/x", "body": {}, "status": 200}
        for number in range(1000):
            log.write(entry | {"number": number}, order=number % 10 == 0)
        everything = list(log.everything())
        kept = [entry["number"] for entry in everything]
        assert {number for number in range(1000) if number % 10 == 0} <= set(kept)
        assert 400 <= len(kept) <= 100 + 300 + 100
        assert everything == sorted(everything, key=lambda entry: -entry["at"])
        pages, cursor = [], ""
        while cursor is not None:
            entries, cursor = log.page(7, cursor)
            pages += [entry["number"] for entry in entries]
        assert pages == kept
