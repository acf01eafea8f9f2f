"""The page and the routes behind it, against an API in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from common.settings import load_settings
from dashboard.api_client import ApiClient
from dashboard.app import create_app
from dashboard.routes import EXTENSION, HEADER, backend_for
from dashboard.runs import BackgroundRun
from dashboard.sessions import COOKIE
from tests.unit.dashboard.samples import AS_OF, minute, owner, request, snapshot

PAGE = {HEADER: "1"}
KEY = "good-key"


class Api:
    """Remembers what it was asked; knows one key."""

    def __init__(self) -> None:
        self.calls: list[httpx.Request] = []

    def __call__(self, call: httpx.Request) -> httpx.Response:
        self.calls.append(call)
        path, key = call.url.path, call.headers.get("Authorization", "")
        if path.startswith("/admin") or (key and key != f"Bearer {KEY}"):
            if key != f"Bearer {KEY}":
                return httpx.Response(401, json={"code": "unauthorized", "detail": "Send an API key.", "status": 401})
            return httpx.Response(200, json={})
        if path.startswith(("/ops", "/workers")):
            return httpx.Response(200, json=READ[path](call.url.params))
        if path == "/inference" and call.method == "POST":
            return httpx.Response(202, json={"request_id": "id-9", "state": "queued"})
        if path == "/inference":
            return httpx.Response(200, json={"requests": [request()], "next_cursor": None})
        return httpx.Response(404, json={"code": "unknown_request", "detail": "no such request", "status": 404})


def history(wanted: Mapping[str, str]) -> dict[str, Any]:
    step = int(wanted["step"])
    rows = [minute(number, accepted=60) for number in range(0, int(wanted["minutes"]), step)]
    return {"as_of": AS_OF, "step": step, "history": rows}


JUNK: list[Any] = [
    None, True, -1, 0, 2.5, 10**400, float("nan"), float("inf"), [], ["x"], [[]], {}, {"a": 1},
    "", "x", "..", "\ud800", "9" * 400, "x" * 5000,
]  # fmt: skip
ORDERS: dict[str, dict[str, Any]] = {
    "actions": {"verb": "chaos", "worker": "w@h", "mode": "slow", "seconds": 1, "rate": 1, "lane": "low", "id": "x"},
    "load": {"requests": 1, "concurrency": 1, "models": ["any"], "priority": "normal"},
    "drill": {"worker": "w@h", "requests": 1},
    "login": {"key": "wrong"},
}


READ: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
    "/ops/snapshot": lambda _: snapshot(),
    "/ops/history": history,
    "/workers/status": lambda _: {"workers": [{"id": "w@h", "model": "resnet18", "chaos": None}]},
}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def client(api: Api) -> FlaskClient:
    settings = load_settings({"MAX_IMAGE_BYTES": "2000"})
    backend = backend_for(settings, ApiClient(settings.base_url, transport=httpx.MockTransport(api)))
    return create_app(settings, backend).server.test_client()


def test_the_page_names_no_other_host_and_allows_none(client: FlaskClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "https://" not in answer.text
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert client.get("/_dash-layout").status_code == 200


def test_the_browsers_tab_has_an_icon_of_ours(client: FlaskClient) -> None:
    answer = client.get("/favicon.ico")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert client.get("/").text.count('rel="icon" href="favicon.ico"') == 1


def test_the_snapshot_tells_the_view_the_runs_and_who_is_logged_in(client: FlaskClient) -> None:
    body = client.get("/ui/snapshot").json
    assert (body["state"], body["logged_in"], body["runs"]) == ("ok", False, {"load": [], "drill": None})
    assert body["view"]["verdict"]["word"] == "Healthy"


def test_a_key_that_has_ended_is_sent_once(client: FlaskClient, api: Api) -> None:
    sessions = client.application.extensions[EXTENSION].sessions
    client.set_cookie(COOKIE, sessions.open("it has ended"))
    bodies = [client.get("/ui/snapshot").json for _ in range(2)]
    assert [(body["state"], body["logged_in"]) for body in bodies] == [("login", False), ("ok", False)]
    assert [call.headers.get("Authorization") for call in api.calls] == ["Bearer it has ended", None]


class Run(BackgroundRun):
    """Runs until it is stopped."""

    def work(self) -> None:
        self._stop.wait(20)

    def document(self) -> dict[str, Any]:
        return {"stopped": self._stop.is_set()}


@pytest.mark.parametrize(("owner_seen", "shown"), [("bob", []), ("anonymous", [{"stopped": False}])])
def test_who_sees_everybodys_requests_sees_and_stops_everybodys_runs_others_their_own(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, owner_seen: str, shown: list[dict[str, bool]]
) -> None:
    monkeypatch.setitem(READ, "/ops/snapshot", lambda _: snapshot(owners=[owner(owner_seen)]))
    tests = client.application.extensions[EXTENSION].load_tests
    tests.start(Run, "ann's key")
    assert client.get("/ui/snapshot").json["runs"]["load"] == shown
    client.delete("/ui/load", headers=PAGE)
    assert tests.documents() == [{"stopped": bool(shown)}]
    tests.stop()


@pytest.mark.parametrize(("minutes", "points", "text"), [(360, 72, "6 hours"), (1440, 96, "24 hours")])
def test_longer_charts_come_from_the_history(client: FlaskClient, minutes: int, points: int, text: str) -> None:
    drawn = client.get(f"/ui/charts?minutes={minutes}").json
    assert [len(drawn[name]) for name in ("throughput", "latency", "split")] == [points] * 3
    assert drawn["summaries"]["throughput"].startswith(f"{60 * points:,} requests in the last {text}")
    assert [slice_["value"] for slice_ in drawn["outcomes"]] == [6, 1, 1]
    assert client.get("/ui/charts?minutes=17").status_code == 422


def test_what_changes_something_must_come_from_the_page(client: FlaskClient, api: Api) -> None:
    for path in ("infer", "kill", "actions", "load", "drill", "login", "logout"):
        assert client.post(f"/ui/{path}", json={}).status_code == 403
    assert api.calls == []


def test_an_image_is_passed_on_as_it_is(client: FlaskClient, api: Api) -> None:
    answer = client.post(
        "/ui/infer?model_type=resnet18&priority=high&evil=1", data=b"bytes", content_type="image/png", headers=PAGE
    )
    assert (answer.status_code, answer.json["request_id"]) == (202, "id-9")
    sent = api.calls[0]
    assert (sent.content, sent.headers["Content-Type"], sent.headers["Prefer"]) == (
        b"bytes",
        "image/png",
        "respond-async",
    )
    assert dict(sent.url.params) == {"model_type": "resnet18", "priority": "high"}


@pytest.mark.parametrize(("path", "body"), [("drill", ORDERS["drill"]), ("kill", {})])
def test_a_drill_without_login_is_refused_at_once(
    client: FlaskClient, api: Api, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(f"/ui/{path}", json=body, headers=PAGE)
    assert (answer.status_code, answer.json["state"]) == (401, "login")
    assert not any(call.url.path == "/inference" for call in api.calls)
    assert client.get("/ui/snapshot").json["runs"]["drill"] is None


def test_a_body_larger_than_any_image_is_refused_here(client: FlaskClient, api: Api) -> None:
    answer = client.post("/ui/infer", data=b"x" * 100_000, content_type="image/png", headers=PAGE)
    assert answer.status_code == 413
    assert api.calls == []


def test_an_order_without_a_key_says_that_one_is_needed(client: FlaskClient) -> None:
    answer = client.post("/ui/actions", json={"verb": "pause", "lane": "normal"}, headers=PAGE)
    assert (answer.status_code, answer.json["state"], answer.json["detail"]) == (401, "login", "Send an API key.")


def test_after_logging_in_orders_carry_the_key_and_the_browser_never_sees_it(client: FlaskClient, api: Api) -> None:
    answer = client.post("/ui/login", json={"key": KEY}, headers=PAGE)
    cookie = answer.headers["Set-Cookie"]
    assert KEY not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/ui/snapshot").json["logged_in"]
    assert client.post("/ui/actions", json={"verb": "pause", "lane": "normal"}, headers=PAGE).status_code == 200
    assert api.calls[-1].headers["Authorization"] == f"Bearer {KEY}"


def test_a_wrong_key_does_not_log_in(client: FlaskClient) -> None:
    answer = client.post("/ui/login", json={"key": "wrong"}, headers=PAGE)
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers


def test_logging_out_forgets_the_key_also_for_a_stolen_cookie(client: FlaskClient) -> None:
    client.post("/ui/login", json={"key": KEY}, headers=PAGE)
    token = client.get_cookie(COOKIE).value
    client.post("/ui/logout", headers=PAGE)
    client.set_cookie(COOKIE, token)
    assert not client.get("/ui/snapshot").json["logged_in"]


def test_errors_of_the_api_keep_their_status_and_words(client: FlaskClient) -> None:
    answer = client.get("/ui/requests/none")
    assert (answer.status_code, answer.json["detail"]) == (404, "no such request")


def test_a_listing_has_rows_for_the_grid(client: FlaskClient, api: Api) -> None:
    body = client.get("/ui/requests?status=failed&limit=10&other=1").json
    assert body["rows"][0]["id"] == "id-1"
    assert dict(api.calls[0].url.params) == {"status": "failed", "limit": "10"}


@pytest.mark.parametrize(
    "given",
    [{}, {"requests": 0, "concurrency": 1}, {"requests": 5, "concurrency": 1000}, {"requests": True, "concurrency": 1}],
)
def test_a_load_test_out_of_bounds_is_refused(client: FlaskClient, api: Api, given: dict[str, object]) -> None:
    assert client.post("/ui/load", json=given, headers=PAGE).status_code == 422
    assert api.calls == []


@pytest.mark.parametrize("path", ORDERS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"null", b'"x"', b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"{" + b" " * 100_000],
)
def test_what_is_no_json_object_is_refused(client: FlaskClient, api: Api, path: str, body: bytes) -> None:
    answer = client.post(f"/ui/{path}", data=body, content_type="application/json", headers=PAGE)
    assert answer.status_code in {413, 422}
    assert answer.json["detail"]
    assert api.calls == []


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, order in ORDERS.items() for name in order])
@pytest.mark.parametrize("verb", ["chaos", "pause", "purge", "cancel"])
def test_no_order_is_so_malformed_that_the_dashboard_fails(
    client: FlaskClient, path: str, name: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.runs.Runs.start", lambda *_: None)
    client.post("/ui/login", json={"key": KEY}, headers=PAGE)
    for value in JUNK:
        order = ORDERS[path] | ({"verb": verb} if path == "actions" else {}) | {name: value}
        answer = client.post(f"/ui/{path}", json=order, headers=PAGE)
        assert answer.status_code < 500, (order, answer.text)
        assert answer.status_code == 200 or answer.json["detail"]


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("actions", {"verb": ["pause"]}),
        ("actions", {"verb": "chaos", "worker": "w@h", "mode": "slow", "seconds": [1]}),
        ("actions", {"verb": "chaos", "worker": "w@h", "mode": "slow", "seconds": True}),
        ("actions", {"verb": "chaos", "worker": "w@h", "mode": "slow", "rate": float("inf")}),
        ("load", {"requests": 1, "concurrency": 1, "models": 7}),
        ("load", {"requests": 1, "concurrency": 1, "models": {"a": 1}}),
        ("load", {"requests": 1, "concurrency": 1, "models": [7]}),
        ("load", {"requests": 1, "concurrency": 1, "models": ["\ud800"]}),
        ("drill", {"worker": "w@h", "requests": True}),
        ("drill", {"worker": "..", "requests": 1}),
        ("drill", {"worker": "x" * 5000, "requests": 1}),
        ("login", {"key": {"a": 1}}),
        ("login", {"key": "x" * 5000}),
    ],
)
def test_malformed_orders_are_refused_before_anything_is_asked(
    client: FlaskClient, api: Api, path: str, given: dict[str, Any]
) -> None:
    assert client.post(f"/ui/{path}", json=given, headers=PAGE).status_code == 422
    assert api.calls == []


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b'{"output": 7}', b'{"output": "a.b", "inputs": []}'])
def test_nothing_is_posted_to_dash_itself(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/_dash-update-component", data=body, content_type="application/json")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_it_answers_only_to_names_of_its_own(client: FlaskClient, api: Api) -> None:
    for path in ("/", "/ui/snapshot", "/_dash-layout", "/assets/nothing.js"):
        answer = client.get(path, headers={"Host": "evil.example:8050"})
        assert (answer.status_code, "ALLOWED_HOSTS" in answer.text) == (421, True)
    assert api.calls == []
    assert client.get("/ui/snapshot", headers={"Host": "127.0.0.1:8050"}).status_code == 200


@pytest.mark.parametrize(("proxies", "secure"), [(0, False), (1, True)])
def test_behind_a_proxy_with_tls_the_cookie_is_for_https_only(api: Api, proxies: int, secure: bool) -> None:
    settings = load_settings({"TRUSTED_PROXIES": str(proxies)})
    backend = backend_for(settings, ApiClient(settings.base_url, transport=httpx.MockTransport(api)))
    client = create_app(settings, backend).server.test_client()
    answer = client.post("/ui/login", json={"key": KEY}, headers={**PAGE, "X-Forwarded-Proto": "https"})
    assert ("Secure" in answer.headers["Set-Cookie"]) is secure


def test_an_encoded_image_is_passed_on_as_such(client: FlaskClient, api: Api) -> None:
    headers = {**PAGE, "Content-Encoding": "gzip"}
    client.post("/ui/infer", data=b"bytes", content_type="image/png", headers=headers)
    assert api.calls[0].headers["Content-Encoding"] == "gzip"
