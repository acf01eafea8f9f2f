"""Who may call what: the table of roles, keys at rest and in the log, budgets."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from api.app import create_app
from api.http import api_keys, failed_keys
from api.http.problems import HttpProblem
from api.services import EXTENSION, Factories, Services
from common.settings import SettingsError, load_settings
from tests.support.roles import roles
from tests.unit.api.conftest import BASE
from tests.unit.api.fakes import FakeQueue
from tests.unit.api.test_inference import BASE64, refused

ADMIN = "the-admin-key"
USER, USER_ENTRY = api_keys.make("ann", "user")
OTHER, OTHER_ENTRY = api_keys.make("bob", "admin")

#: Every route and the role it asks for. A new route must be entered here.
TABLE = {
    "public": {
        "GET /", "GET /docs", "GET /docs/assets/<path:name>", "GET /favicon.ico", "GET /health", "GET /livez",
        "GET /openapi.json", "GET /problems/<code>", "GET /readyz", "GET /v2/health/live", "GET /v2/health/ready",
    },
    "metrics": {"GET /metrics", "GET /metrics/prometheus"},
    "user": {
        "POST /batch_inference", "GET /batch_inference/<batch_id>", "POST /batch_inference/<batch_id>/cancel",
        "GET /batch_inference/<batch_id>/events", "GET /batch_inference/<batch_id>/results", "GET /dead_letters",
        "GET /dead_letters/<request_id>", "GET /inference", "POST /inference", "DELETE /inference/<request_id>",
        "GET /inference/<request_id>", "POST /inference/<request_id>/cancel", "GET /inference/<request_id>/events",
        "GET /models", "GET /ops/history", "GET /ops/snapshot", "GET /queue/status", "GET /usage", "GET /v2",
        "GET /v2/models/<model>",
        "POST /v2/models/<model>/infer", "GET /v2/models/<model>/ready", "GET /v2/models/<model>/versions/<version>",
        "POST /v2/models/<model>/versions/<version>/infer", "GET /v2/models/<model>/versions/<version>/ready",
        "GET /workers/status",
    },
    "admin": {
        "GET /admin/audit", "GET /admin/doctor", "GET /admin/keys", "POST /admin/keys", "DELETE /admin/keys/<key_id>",
        "PATCH /admin/keys/<key_id>", "PATCH /admin/owners/<owner>",
        "GET /inference/<request_id>/image", "POST /admin/lanes/<lane>/purge",
        "POST /admin/workers/<worker_id>/restart",
        "POST /admin/lanes/<lane>/pause", "POST /admin/lanes/<lane>/resume", "POST /admin/workers/<worker_id>/chaos",
        "POST /admin/models/<model>/scale", "POST /admin/workers/<worker_id>/drain",
        "POST /admin/workers/<worker_id>/resume",
        "DELETE /dead_letters/<request_id>", "POST /dead_letters/<request_id>/requeue",
    },
}  # fmt: skip
EXPECTED = {tuple(route.split()): role for role, routes in TABLE.items() for route in routes}

Make = Callable[..., Flask]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the case that must be refused


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_table_of_roles_is_complete(app: Flask) -> None:
    assert roles(app) == EXPECTED


GUARDED = load_settings(BASE | {"AUTH": "on", "ADMIN_KEY": ADMIN, "API_KEYS": USER_ENTRY, "CHAOS_ENABLED": "1"})


@pytest.fixture(scope="module")
def guarded() -> Flask:
    """An app that asks everybody for a key; for all routes the same, since it takes longer to build than to ask."""
    return create_app(GUARDED)


@pytest.mark.parametrize(("route", "role"), sorted(EXPECTED.items()))
def test_each_route_asks_for_its_role(guarded: Flask, factories: Factories, route: tuple[str, str], role: str) -> None:
    guarded.config["TESTING"] = True
    guarded.extensions[EXTENSION] = Services(GUARDED, factories)
    client = guarded.test_client()
    method, path = route[0], route[1].replace("<code>", "lane_full").replace("<path:name>", "index.css")
    refusals = []
    for headers in ({}, bearer(USER), bearer(ADMIN)):
        with client.open(path, method=method, headers=headers) as answer:
            refusals.append(answer.status_code if answer.status_code in {401, 403} else 0)
    assert refusals == {"public": [0, 0, 0], "metrics": [401, 0, 0], "user": [401, 0, 0], "admin": [401, 403, 0]}[role]


def test_a_scraper_on_loopback_needs_no_key_where_the_setting_says_so(make_app: Make) -> None:
    client = make_app(API_KEYS=USER_ENTRY, METRICS_OPEN="1").test_client()
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}}
    for path in ("/metrics", "/metrics/prometheus"):
        assert client.get(path).status_code == 200
        refused(client.get(path, **elsewhere), 401, "unauthorized")
        assert client.get(path, headers=bearer(USER), **elsewhere).status_code == 200
    refused(client.get("/inference"), 401, "unauthorized")


def test_without_keys_users_are_let_in_and_admin_routes_stay_closed(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/inference").status_code == 200
    problem = refused(client.post("/admin/lanes/normal/pause"), 403, "forbidden")
    assert "ADMIN_KEY" in problem["detail"]


@pytest.mark.parametrize("headers", [bearer(USER), {"X-API-Key": USER}, {"Authorization": f"bearer   {USER}"}])
def test_a_key_may_come_in_either_header(make_app: Make, headers: dict[str, str]) -> None:
    client = make_app(API_KEYS=USER_ENTRY).test_client()
    assert client.get("/inference", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, bearer("wrong"), bearer(""), bearer(USER + "x"), {"Authorization": "Basic abc"}]
)
def test_anything_else_is_401_with_a_challenge(make_app: Make, headers: dict[str, str]) -> None:
    response = make_app(API_KEYS=USER_ENTRY).test_client().get("/inference", headers=headers)
    refused(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_wrong_key_is_refused_even_where_none_is_needed(app: Flask) -> None:
    refused(app.test_client().get("/inference", headers=bearer("wrong")), 401, "unauthorized")


@pytest.mark.parametrize(("asked", "owner"), [("off", "anonymous"), ("on", "bob")])
def test_where_no_key_is_needed_requests_have_no_owner(
    make_app: Make, queue: FakeQueue, asked: str, owner: str
) -> None:
    client = make_app(API_KEYS=OTHER_ENTRY, AUTH=asked).test_client()
    answer = client.post("/inference", json={"data": BASE64, "model_type": "answers"}, headers=bearer(OTHER))
    assert answer.get_json()["owner"] == owner
    assert [name.rpartition("/")[0] for name in queue.kept] == ["bob" if asked == "on" else ""]


def test_an_admin_of_the_list_is_as_good_as_the_admin_key(make_app: Make) -> None:
    client = make_app(API_KEYS=OTHER_ENTRY).test_client()
    assert client.post("/admin/lanes/normal/pause", headers=bearer(OTHER)).status_code == 200


def test_the_admin_key_may_be_kept_hashed(make_app: Make) -> None:
    hashed = "sha256:" + hashlib.sha256(ADMIN.encode()).hexdigest()
    client = make_app(ADMIN_KEY=hashed).test_client()
    assert client.post("/admin/lanes/normal/pause", headers=bearer(ADMIN)).status_code == 200
    refused(client.post("/admin/lanes/normal/pause", headers=bearer(hashed)), 401, "unauthorized")


@pytest.mark.parametrize(
    "environ",
    [
        {"API_HOST": EVERYWHERE},
        {"API_HOST": EVERYWHERE, "AUTH": "off", "API_KEYS": USER_ENTRY},
        {"API_HOST": "api.example.org", "AUTH": "auto"},
        {"AUTH": "on"},
        {"API_KEYS": "ann:user:short"},
        {"API_KEYS": f"ann:user:{'0' * 64}:0"},
        {"API_KEYS": f"ann:user:{'0' * 64}:much"},
        {"API_KEYS": f"anonymous:user:{'0' * 64}"},
        {"API_KEYS": f"..:user:{'0' * 64}"},
        {"API_KEYS": f"ann:root:{'0' * 64}"},
        {"ADMIN_KEY": "sha256:xyz"},
        {"API_HOST": EVERYWHERE, "AUTH": "on", "ADMIN_KEY": "changeme"},
        {"API_HOST": EVERYWHERE, "AUTH": "on", "ADMIN_KEY": "a" * 40},
        {"DASHBOARD_HOST": EVERYWHERE, "ADMIN_KEY": "changeme"},
    ],
)
def test_it_does_not_start_open_to_others_or_with_broken_keys(make_app: Make, environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        make_app(**environ)
    assert "0" * 64 not in str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"API_HOST": "::1"},
        {"API_HOST": "localhost", "ADMIN_KEY": "x"},
        {"API_HOST": EVERYWHERE, "AUTH": "on", "ADMIN_KEY": "il_Zk3vQ9sLw0aB7"},
        {"API_HOST": EVERYWHERE, "AUTH": "on", "ADMIN_KEY": "sha256:" + "0" * 64},
    ],
)
def test_it_starts_on_loopback_or_with_keys(make_app: Make, environ: dict[str, str]) -> None:
    assert make_app(**environ)


def test_without_keys_it_answers_only_to_names_of_its_own(make_app: Make) -> None:
    client = make_app(ALLOWED_HOSTS="inferlane.test", API_URL="http://api.test:8000").test_client()
    for host in ("localhost:8000", "127.0.0.1", "inferlane.test", "api.test"):
        assert client.get("/inference", headers={"Host": host}).status_code == 200
    for path in ("/inference", "/health", "/livez", "/openapi.json", "/nope"):
        problem = refused(client.get(path, headers={"Host": "evil.example:8000"}), 421, "misdirected")
        assert "ALLOWED_HOSTS" in problem["detail"]


def test_with_keys_the_name_does_not_matter(make_app: Make) -> None:
    client = make_app(API_KEYS=USER_ENTRY).test_client()
    assert client.get("/inference", headers={"Host": "any.example", **bearer(USER)}).status_code == 200


class TestGuessing:
    def test_wrong_keys_are_limited_and_those_that_were_good_are_not(self, make_app: Make) -> None:
        client = make_app(API_KEYS=f"{USER_ENTRY},{OTHER_ENTRY}").test_client()
        assert client.get("/inference", headers=bearer(USER)).status_code == 200
        answers = [client.get("/inference", headers=bearer(f"guess-{n}")) for n in range(failed_keys.MOST + 2)]
        assert [answer.status_code for answer in answers] == [401] * failed_keys.MOST + [429] * 2
        refused(answers[-1], 429, "rate_limited")
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= failed_keys.STEP
        assert client.get("/inference", headers=bearer(USER)).status_code == 200
        # A right guess tells nothing, and another address is another matter.
        assert client.get("/inference", headers=bearer(OTHER)).status_code == 429
        elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}}
        assert client.get("/inference", headers=bearer(OTHER), **elsewhere).status_code == 200

    def test_the_address_behind_a_proxy_counts_only_where_one_is_trusted(self, make_app: Make) -> None:
        for proxies, last in ((0, 429), (1, 401)):
            client = make_app(API_KEYS=USER_ENTRY, TRUSTED_PROXIES=proxies).test_client()
            statuses = [
                client.get("/inference", headers=bearer("x") | {"X-Forwarded-For": f"192.0.2.{n}"}).status_code
                for n in range(failed_keys.MOST + 1)
            ]
            assert statuses[-1] == last

    def test_tries_come_back_with_time_and_right_keys_cost_none(self) -> None:
        now = [0.0]
        found = failed_keys.FailedKeyLimiter(
            api_keys.KnownKeys(load_settings({"API_KEYS": USER_ENTRY})).caller, lambda: now[0]
        )
        for _ in range(failed_keys.MOST * 2):
            assert found.caller(USER, "192.0.2.1")
        for _ in range(failed_keys.MOST):
            assert found.caller("wrong", "192.0.2.2") is None
        with pytest.raises(HttpProblem):
            found.caller("wrong", "192.0.2.2")
        now[0] = failed_keys.STEP + 0.01
        assert found.caller("wrong", "192.0.2.2") is None
        with pytest.raises(HttpProblem):
            found.caller("wrong", "192.0.2.2")

    def test_a_key_made_at_run_time_is_compared_all_the_same(self) -> None:
        found = failed_keys.FailedKeyLimiter(
            api_keys.KnownKeys(load_settings({"API_KEYS": USER_ENTRY})).caller, random=lambda key: key == USER
        )
        for _ in range(failed_keys.MOST):
            found.caller("wrong", "192.0.2.1")
        assert found.caller(USER, "192.0.2.1")
        with pytest.raises(HttpProblem):
            found.caller("wrong", "192.0.2.1")

    def test_a_network_of_version_6_is_one_address(self) -> None:
        found = failed_keys.FailedKeyLimiter(api_keys.KnownKeys(load_settings({"API_KEYS": USER_ENTRY})).caller)
        for number in range(failed_keys.MOST):
            found.caller("wrong", f"2001:db8::{number:x}")
        with pytest.raises(HttpProblem):
            found.caller("wrong", "2001:db8::ffff")
        assert found.caller("wrong", "2001:db8:0:1::1") is None

    def test_what_is_remembered_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(failed_keys, "KEPT", 5)
        found = failed_keys.FailedKeyLimiter(api_keys.KnownKeys(load_settings({"API_KEYS": USER_ENTRY})).caller)
        for number in range(50):
            found.caller("wrong", f"192.0.2.{number}")
            found.caller(USER, f"192.0.2.{number}")
        assert (len(found._full_at), len(found._good)) == (5, 5)


def test_keys_do_not_get_into_logs_or_answers(make_app: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_app(API_KEYS=USER_ENTRY, ADMIN_KEY=ADMIN).test_client()
    for key in (USER, ADMIN, "wrong-but-secret"):
        for path in ("/inference", "/nope", "/inference?limit=0"):
            answer = client.get(path, headers=bearer(key))
            assert key not in answer.text + str(answer.headers)
    assert not any(key in caplog.text for key in (USER, ADMIN, "wrong-but-secret"))


def test_the_command_runs_without_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "api.http.api_keys", "ann"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_command_prints_a_key_that_its_entry_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    assert api_keys.main(["carol", "admin"]) == 0
    key, entry = (line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines())
    found = api_keys.KnownKeys(load_settings({"API_KEYS": entry})).caller(key)
    assert found
    assert (found.name, found.role) == ("carol", "admin")
    assert key not in entry
    assert api_keys.main([]) == 2


class TestBudgets:
    def test_calls_beyond_the_limit_are_429_and_say_when(self, make_app: Make, queue: FakeQueue) -> None:
        client = make_app(RATE_LIMIT="2/60").test_client()
        answers = [client.get("/inference") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert refused(answers[2], 429, "rate_limited")["retryable"]
        assert answers[2].headers["Retry-After"] == "30"
        assert answers[0].headers["RateLimit"] == '"default";r=1;t=30'
        assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"default";q=2;w=60'}
        assert client.get("/livez").status_code == 200
        assert not queue.submitted

    def test_each_key_has_its_own_budget(self, make_app: Make) -> None:
        client = make_app(RATE_LIMIT="1/60", API_KEYS=f"{USER_ENTRY},{OTHER_ENTRY}").test_client()
        body: dict[str, Any] = {"json": {"data": BASE64, "model_type": "answers"}}
        statuses = [client.post("/inference", headers=bearer(key), **body).status_code for key in (USER, OTHER, USER)]
        assert statuses == [200, 200, 429]

    def test_each_item_of_a_batch_counts(self, make_app: Make, queue: FakeQueue) -> None:
        client = make_app(RATE_LIMIT="5/60").test_client()
        items = {"requests": [{"data": BASE64, "model_type": "answers"}] * 3}
        first = client.post("/batch_inference", json=items)
        assert (first.status_code, first.headers["RateLimit"].split(";")[1]) == (200, "r=2")
        refused(client.post("/batch_inference", json=items), 429, "rate_limited")
        assert len(queue.submitted) == 3, "of a refused batch no item is accepted"

    def test_a_batch_no_budget_would_do_for_is_refused_for_good(self, make_app: Make) -> None:
        client = make_app(RATE_LIMIT="2/60").test_client()
        items = {"requests": [{"data": BASE64, "model_type": "answers"}] * 3}
        problem = refused(client.post("/batch_inference", json=items), 422, "invalid_parameters")
        assert "RATE_LIMIT" in problem["errors"][0]["detail"]

    def test_each_image_of_a_tensor_counts(self, make_app: Make) -> None:
        client = make_app(RATE_LIMIT="3/60").test_client()
        tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [BASE64, BASE64]}
        answers = [client.post("/v2/models/answers/infer", json={"inputs": [tensor]}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429], answers[0].text

    @pytest.mark.parametrize("text", ["10", "0/60", "x/60", "10/0", "10/x"])
    def test_a_malformed_limit_is_refused(self, text: str) -> None:
        with pytest.raises(SettingsError, match="RATE_LIMIT"):
            load_settings({"RATE_LIMIT": text})
