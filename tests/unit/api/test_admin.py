"""Orders of an operator and dead letters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.features import scaling
from api.http.problems import HttpProblem
from tasks.errors import BrokerUnavailable
from tests.unit.api.fakes import FakeAudit, FakeControls, FakeDeadLetters, FakeQueue
from tests.unit.api.test_inference import post, refused

KEY = {"Authorization": "Bearer boss"}


@pytest.fixture
def boss(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(ADMIN_KEY="boss", CHAOS_ENABLED=1).test_client()


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("lanes/normal/pause", ("pause", "normal", "admin")),
        ("lanes/high.answers/resume", ("resume", "high.answers")),
        ("workers/answers-1@host/drain", ("drain", "answers-1@host")),
        ("workers/answers-1@host/resume", ("undrain", "answers-1@host")),
    ],
)
def test_orders_are_given(boss: FlaskClient, controls: FakeControls, path: str, order: tuple[str, ...]) -> None:
    answer = boss.post(f"/admin/{path}", headers=KEY)
    assert (answer.status_code, answer.get_json()["target"]) == (200, order[1])
    assert controls.orders == [order]


@pytest.mark.parametrize("body", [b"[1]", b"7", b"[" * 100_000, b"\xff", b"x" * 399_000])
def test_a_body_that_an_order_does_not_need_changes_nothing(
    boss: FlaskClient, controls: FakeControls, body: bytes
) -> None:
    answer = boss.post("/admin/lanes/normal/pause", data=body, content_type="application/json", headers=KEY)
    assert answer.status_code == 200
    assert controls.orders == [("pause", "normal", "admin")]


def test_a_purge_says_how_many_it_ended(boss: FlaskClient, controls: FakeControls) -> None:
    answer = boss.post("/admin/lanes/normal/purge", json={"confirm": "normal"}, headers=KEY)
    assert (answer.status_code, answer.get_json()["canceled"]) == (200, 3)
    assert controls.orders == [("purge", "normal", "admin")]


@pytest.mark.parametrize("body", [{}, {"confirm": "high"}, {"confirm": True}])
def test_a_purge_needs_the_name_of_the_lane_again(boss: FlaskClient, controls: FakeControls, body: Any) -> None:
    problem = refused(boss.post("/admin/lanes/normal/purge", json=body, headers=KEY), 422, "invalid_parameters")
    assert problem["errors"][0]["name"] == "confirm"
    assert not controls.orders


def test_a_restart_is_meant_for_one_process(boss: FlaskClient, controls: FakeControls, queue: FakeQueue) -> None:
    assert boss.post("/admin/workers/answers-1@host/restart", headers=KEY).status_code == 200
    assert controls.orders == [("restart", "answers-1@host", queue.rows[0]["boot"])]


@pytest.mark.parametrize(
    ("path", "code"), [("lanes/nope/pause", "unknown_lane"), ("workers/nope/drain", "unknown_worker")]
)
def test_nobody_obeys_an_order_for_nothing(boss: FlaskClient, controls: FakeControls, path: str, code: str) -> None:
    refused(boss.post(f"/admin/{path}", headers=KEY), 404, code)
    assert not controls.orders


def chaos(client: FlaskClient, body: Any) -> Any:
    return client.post("/admin/workers/answers-1@host/chaos", json=body, headers=KEY)


def test_chaos_is_ordered(boss: FlaskClient, controls: FakeControls) -> None:
    assert chaos(boss, {"mode": "slow", "seconds": 0.5}).status_code == 200
    assert controls.orders == [("chaos", "answers-1@host", "slow", 0.5, 1.0)]


@pytest.mark.parametrize(
    ("body", "name"), [({}, "mode"), ({"mode": "x"}, "mode"), ({"mode": "slow", "seconds": -1}, "seconds"),
                       ({"mode": "error", "rate": "x"}, "rate"), ({"mode": "error", "rate": True}, "rate")],
)  # fmt: skip
def test_wrong_chaos_is_refused(boss: FlaskClient, controls: FakeControls, body: Any, name: str) -> None:
    assert refused(chaos(boss, body), 422, "invalid_parameters")["errors"][0]["name"] == name
    assert not controls.orders


def test_every_call_of_an_admin_route_is_in_the_audit_log(boss: FlaskClient, audit: FakeAudit) -> None:
    chaos(boss, {"mode": "slow", "seconds": 0.5, "note": "not declared", "rate": "x" * 200})
    boss.post("/admin/lanes/normal/pause", headers={"X-Request-ID": "ann-1"})
    boss.get("/admin/doctor", headers=KEY)
    boss.get("/inference", headers=KEY)
    boss.get("/admin/audit?limit=none", headers=KEY)
    assert [
        (entry["name"], entry["method"], entry["path"], entry["status"], entry["order"]) for entry in audit.entries
    ] == [
        ("admin", "POST", "/admin/workers/answers-1@host/chaos", 422, True),
        ("", "POST", "/admin/lanes/normal/pause", 401, False),
        ("admin", "GET", "/admin/doctor", 200, False),
        ("admin", "GET", "/admin/audit?limit=none", 422, False),
    ]
    assert audit.entries[0]["body"] == {"mode": "slow", "seconds": 0.5}
    assert audit.entries[0]["route"] == "/admin/workers/<worker_id>/chaos"
    assert audit.entries[0]["key_id"] == "ADMIN_KEY"
    assert (audit.entries[1]["request_id"], audit.entries[1]["address"]) == ("ann-1", "127.0.0.1")


@pytest.mark.parametrize(
    ("error", "kept"),
    [(HttpProblem("refused", "make scale failed"), [503]), (BrokerUnavailable("Redis does not answer"), [])],
)
def test_an_order_that_is_refused_with_503_is_in_the_audit_log_unless_redis_is_out(
    boss: FlaskClient, controls: FakeControls, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch, error: Exception,
    kept: list[int],
) -> None:  # fmt: skip
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(controls, "pause", fails)
    assert boss.post("/admin/lanes/normal/pause", headers=KEY).status_code == 503
    assert [entry["status"] for entry in audit.entries] == kept


def test_chaos_needs_to_be_enabled(make_app: Callable[..., Flask], controls: FakeControls) -> None:
    refused(chaos(make_app(ADMIN_KEY="boss").test_client(), {"mode": "crash"}), 409, "chaos_disabled")
    assert not controls.orders


def test_dead_letters_are_listed_requeued_and_deleted(
    boss: FlaskClient, queue: FakeQueue, dead_letters: FakeDeadLetters
) -> None:
    for name in ("a", "b"):
        post(boss, {"model_type": "fails", "request_id": name})
    dead_letters.letters = ["a", "b"]
    listed = boss.get("/dead_letters").get_json()["dead_letters"]
    assert [letter["request_id"] for letter in listed] == ["a", "b"]
    assert boss.get("/dead_letters/a").get_json()["error"]["code"] == "truncated_image"
    assert boss.post("/dead_letters/a/requeue", headers=KEY).get_json()["status"] == "queued"
    assert boss.delete("/dead_letters/b", headers=KEY).status_code == 204
    for response in (boss.get("/dead_letters/a"), boss.delete("/dead_letters/b", headers=KEY)):
        refused(response, 404, "unknown_dead_letter")
    assert boss.get("/dead_letters").get_json()["dead_letters"] == []


def test_workers_of_another_supervisor_are_not_scaled(boss: FlaskClient) -> None:
    refused(boss.post("/admin/models/answers/scale", json={"workers": 2}, headers=KEY), 409, "not_supervised")


BROKEN = "worker-toy-2 does not stay up (BACKOFF); its log ends:"


@pytest.mark.parametrize(
    ("message", "retryable", "expected"),
    [
        ("`make start` is under way here", True, (503, "refused", "`make start` is under way here")),
        (f"{BROKEN}\nTraceback\nValueError: no", False, (500, "scale_failed", f"{BROKEN} ValueError: no")),
        (None, False, (500, "scale_failed", "KeyError: 'x'")),
    ],
)
def test_a_scale_that_fails_says_why(
    make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    message: str | None, retryable: bool, expected: tuple[int, str, str],
) -> None:  # fmt: skip
    (tmp_path / "logs").mkdir()
    (tmp_path / "replicas.json").write_text('{"toy": 1}')
    failure = json.dumps({"error": {"message": message, "retryable": retryable}}) if message else "KeyError: 'x'"
    (tmp_path / "said").write_text(f"Waiting for worker-toy-2.\n{failure}\n")
    command = tmp_path / "python"
    command.write_text(f"#!/bin/sh\ncat {tmp_path}/said\nexit 1\n")
    command.chmod(0o700)
    monkeypatch.setenv(scaling.MARK, str(tmp_path))
    monkeypatch.setattr("sys.executable", str(command))
    boss = make_app(ADMIN_KEY="boss", RUN_DIR=tmp_path).test_client()
    answer = boss.post("/admin/models/toy/scale", json={"workers": 2}, headers=KEY)
    assert (answer.status_code, answer.get_json()["code"], answer.get_json()["detail"]) == expected
