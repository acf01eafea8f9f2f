"""Each check of the doctor, well and unwell, and what it says when it cannot know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from api.features.doctor import Check, Installation, examine
from common.settings import load_settings
from tasks.inspect.redis_info import Vitals
from tests.unit.api.fakes import FakeQueue, worker_row

KEY = {"Authorization": "Bearer boss"}
VERSIONS = {"celery": "5.7.0", "kombu": "5.7.0", "redis": "8.1.0"}
SOUND = Vitals(server="Valkey 9.1.2", policy="noeviction", appendonly=True, fsync="everysec", limit=1000, used=100,
               workers_ahead={"a@one": 0.01})  # fmt: skip


def worker(name: str = "a@one", **changes: Any) -> dict[str, Any]:
    given = {"host": "one", "versions": VERSIONS, "weights": "torchvision:V1", **changes}
    return worker_row(name, given.pop("model", "resnet18"), **given)


def installation(*workers: dict[str, Any], vitals: dict[str, Any] | None = None, **more: Any) -> Installation:
    """A sound installation with these differences."""
    environ = {"MODELS": "resnet18", **more.pop("environ", {})}
    known: dict[str, Any] = {"settings": load_settings(environ), "asks_for_keys": False, "versions": VERSIONS}
    return Installation(**known | {"vitals": replace(SOUND, **vitals or {}), "workers": workers or (worker(),)} | more)


def found(given: Installation, name: str) -> Check:
    return next(check for check in examine(given) if check.name == name)


def test_a_sound_installation_has_nothing_to_mend() -> None:
    checks = examine(installation())
    assert {check.name: check.ok for check in checks if not check.ok} == {}
    assert all(check.detail and not check.remedy for check in checks)


@pytest.mark.parametrize(
    ("name", "vitals", "says"),
    [
        ("eviction", {"policy": "allkeys-lru"}, "allkeys-lru"),
        ("persistence", {"appendonly": False}, "lost when Redis ends"),
        ("persistence", {"write_error": True}, "write"),
        ("fsync", {"fsync": "no"}, "kernel"),
        ("memory", {"used": 900}, "90% of maxmemory"),
        ("memory", {"used": 900, "limit": 0, "host_memory": 1000}, "without a maxmemory"),
        ("clock: API", {"ahead": -3.0}, "-3.0 s"),
        ("clock: workers", {"workers_ahead": {"a@one": 90.0}}, "a@one is +90.0 s"),
    ],
)
def test_a_redis_that_is_set_up_wrongly_is_told(name: str, vitals: dict[str, Any], says: str) -> None:
    check = found(installation(vitals=vitals), name)
    assert (check.ok, bool(check.remedy)) == (False, True)
    assert says in check.detail


@pytest.mark.parametrize(
    ("name", "vitals"),
    [
        ("eviction", {"policy": None}),
        ("persistence", {"appendonly": None}),
        ("fsync", {"fsync": None}),
        ("memory", {"limit": 0, "host_memory": None}),
    ],
)
def test_what_redis_does_not_tell_is_unknown(name: str, vitals: dict[str, Any]) -> None:
    assert found(installation(vitals=vitals), name).ok is None


@pytest.mark.parametrize("vitals", [{"limit": 0, "host_memory": 1000}, {"fsync": "always"}])
def test_other_ways_to_be_well(vitals: dict[str, Any]) -> None:
    assert [check for check in examine(installation(vitals=vitals)) if not check.ok] == []


def test_without_redis_the_rest_is_unknown_and_the_house_is_looked_at() -> None:
    down = replace(installation(), vitals=None, workers=(), outage="Redis does not answer: refused")
    told = {check.name: check.ok for check in examine(down)}
    assert told.keys() >= {"redis", "eviction", "persistence", "fsync", "memory", "timeouts"}
    assert (told["redis"], told["eviction"], told["timeouts"]) == (False, None, True)
    assert found(down, "redis").detail == "Redis does not answer: refused"


@pytest.mark.parametrize(
    ("workers", "ok"),
    [
        ([worker("a@one"), worker("b@one")], False),
        ([worker("a@one"), worker("b@two", host="two")], True),
        ([worker("a@one", intra_op_threads=1), worker("b@one", intra_op_threads=1)], True),
        ([worker("a@one", intra_op_threads=1, cpu_mask="1"), worker("b@one", intra_op_threads=1, cpu_mask="1")], False),
        ([worker("a@one", cpu_mask="ff", cpu_count=2), worker("b@one", cpu_mask="ff", cpu_count=2)], False),
        ([worker("a@one", cpu_mask="ff", cpu_count=8), worker("b@one", cpu_mask="ff", cpu_count=8)], True),
        ([worker("a@one", device="cuda:0"), worker("b@one")], True),
        ([worker("a@one", device="cuda:0")], None),
    ],
)
def test_threads_of_a_host_are_held_against_its_cores(workers: list[dict[str, Any]], ok: bool | None) -> None:
    check = found(installation(*workers), "threads")
    assert check.ok is ok, check.detail


def test_weights_are_judged_per_model() -> None:
    given = installation(
        worker(), worker("b@one", model="mine", weights="random"), environ={"MODELS": "resnet18,mobilenet"}
    )
    told = {check.name: check.ok for check in examine(given) if check.name.startswith("weights")}
    assert told == {"weights: resnet18": True, "weights: mobilenet": None, "weights: mine": False}


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ([worker(versions={**VERSIONS, "celery": "5.6.2"})], "celery 5.6.2"),
        ([worker(versions={**VERSIONS, "redis": "8.0.0"})], "redis 8.0.0, the API 8.1.0"),
        ([worker(versions={"celery": "5.7.0"})], "kombu nowhere"),
    ],
)
def test_versions_that_differ_or_are_too_old_are_told(workers: list[dict[str, Any]], says: str) -> None:
    check = found(installation(*workers), "versions")
    assert check.ok is False
    assert says in check.detail


def test_an_api_on_an_old_celery_is_told() -> None:
    assert found(installation(versions={**VERSIONS, "kombu": "5.6.1"}), "versions").ok is False


def test_workers_that_are_set_differently_are_told() -> None:
    check = found(installation(environ={"HARD_TIMEOUT": "60"}), "settings")
    assert (check.ok, check.detail) == (False, "a@one has HARD_TIMEOUT 120.0, the API 60.0")


@pytest.mark.parametrize(
    ("environ", "service_seconds", "says"),
    [
        ({"MAX_WAIT": "2"}, 0.02, "MAX_WAIT"),
        ({"HARD_TIMEOUT": "1.5"}, 0.0, "LEASE_TTL"),
        ({"HARD_TIMEOUT": "30"}, 0.5, "ends a@one"),
    ],
)
def test_durations_that_do_not_fit_are_told(environ: dict[str, str], service_seconds: float, says: str) -> None:
    check = found(installation(worker(service_seconds=service_seconds), environ=environ), "timeouts")
    assert check.ok is False
    assert says in check.detail


@pytest.mark.parametrize(
    ("environ", "ok", "says"),
    [
        ({}, True, "6:3:1"),
        ({"LANE_ORDER": "strict"}, True, "strict"),
        ({"LANE_WEIGHTS": "1,3,6"}, False, "1:3:6"),
    ],
)
def test_the_order_of_lanes_is_told(environ: dict[str, str], ok: bool, says: str) -> None:
    check = found(installation(environ=environ), "priorities")
    assert check.ok is ok
    assert says in check.detail


@pytest.mark.parametrize(
    ("more", "ok"),
    [
        ({}, True),
        ({"proxied_from": "photos.example.org"}, False),
        ({"proxied_from": "localhost"}, True),
        ({"environ": {"API_URL": "https://photos.example.org"}}, False),
        ({"environ": {"API_HOST": "10.0.0.7"}}, False),
        ({"environ": {"API_HOST": "10.0.0.7"}, "asks_for_keys": True}, True),
    ],
)
def test_an_open_door_is_told(more: dict[str, Any], ok: bool) -> None:
    assert found(installation(**more), "access").ok is ok


def test_faults_are_for_this_host_only() -> None:
    assert found(installation(environ={"CHAOS_ENABLED": "1"}), "faults").ok
    check = found(installation(environ={"CHAOS_ENABLED": "1", "API_HOST": "10.0.0.7"}), "faults")
    assert (check.ok, "API_HOST" in check.detail) == (False, True)


def asked(make_app: Callable[..., Flask], **headers: str) -> dict[str, Any]:
    answer = make_app(ADMIN_KEY="boss").test_client().get("/admin/doctor", headers=KEY | headers)
    assert answer.status_code == 200
    return {check["name"]: check for check in answer.get_json()["checks"]}


def test_the_route_tells_every_check(make_app: Callable[..., Flask]) -> None:
    checks = asked(make_app)
    assert (checks["eviction"]["ok"], checks["access"]["ok"]) == (True, True)
    assert set(checks["redis"]) == {"name", "ok", "detail", "remedy"}


def test_the_route_sees_a_proxy_in_front(make_app: Callable[..., Flask]) -> None:
    headers = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Host": "photos.example.org"}
    assert asked(make_app, **headers)["access"]["ok"] is False


def test_the_route_answers_without_redis(make_app: Callable[..., Flask], queue: FakeQueue) -> None:
    queue.down = True
    checks = asked(make_app)
    assert (checks["redis"]["ok"], checks["memory"]["ok"]) == (False, None)
