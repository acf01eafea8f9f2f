"""The commands of people who run the system, as processes against a real API, with and without the admin's key."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from inferlane import Client
from inferlane.errors import AccessDenied, Failed
from tests.integration.client.conftest import ADMIN_KEY, MODELS, image
from tests.integration.client.test_command_line import documents, run
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("restored")


def admin(api: ApiProcess, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(api.url, *arguments, "--api-key", ADMIN_KEY)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(done.stdout)}


def test_a_fault_is_caused_seen_and_ended(toy_api: ApiProcess, client: Client) -> None:
    done = admin(toy_api, "chaos", "slow", "--model", "toy", "--seconds", "0.3")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: client.workers()[0]["chaos"] == "slow")
    assert client.predict(image(), "toy").timings["infer"] >= 0.3
    assert "slow" in run(toy_api.url, "chaos").stdout
    assert findings(run(toy_api.url, "doctor", "--json"))["health: fault"]["verdict"] == "warning"
    assert admin(toy_api, "chaos", "off", "--all").returncode == 0
    wait_until(lambda: client.workers()[0]["chaos"] == "off")


def test_orders_need_the_key_and_a_target(toy_api: ApiProcess) -> None:
    refused = run(toy_api.url, "chaos", "slow", "--all")
    assert refused.returncode == 1
    assert "INFERLANE_API_KEY" in refused.stderr
    assert admin(toy_api, "chaos", "slow").returncode == 2
    assert admin(toy_api, "chaos", "slow", "--model", "nobody").returncode == 2
    assert admin(toy_api, "chaos", "slow", "--worker", "nobody@nowhere").returncode == 1
    assert run(toy_api.url, "chaos", "explode", "--all").returncode == 2
    with Client(toy_api.url) as nobody, pytest.raises(AccessDenied):
        nobody.document("/admin/lanes/low.toy/pause", method="POST")


def test_a_lane_is_paused_and_resumed(toy_api: ApiProcess, client: Client) -> None:
    client.predict(image(), "toy", priority="low")  # makes the lane known
    assert admin(toy_api, "queues", "--pause", "low.toy").returncode == 0
    job = client.submit(image(), "toy", priority="low")
    wait_until(lambda: "paused" in run(toy_api.url, "queues").stdout)
    assert not job.status(wait=1).ended
    assert admin(toy_api, "queues", "--resume", "low.toy").returncode == 0
    assert job.result().model == "toy"


def test_a_worker_is_drained_and_takes_again(toy_api: ApiProcess, client: Client) -> None:
    (worker,) = client.workers()
    assert admin(toy_api, "workers", "--drain", worker["id"]).returncode == 0
    wait_until(lambda: client.workers()[0]["state"] == "draining")
    assert run(toy_api.url, "doctor").returncode == 1
    assert admin(toy_api, "workers", "--resume", worker["id"]).returncode == 0
    wait_until(lambda: client.workers()[0]["state"] == "idle")


def test_a_dead_letter_is_listed_shown_requeued_and_deleted(
    toy_api: ApiProcess, client: Client, tmp_path: Path
) -> None:
    """It fails while the file says so few lines, so that it succeeds when it is run again."""
    given_up = f"given-up-{uuid4().hex[:8]}"
    with pytest.raises(Failed):
        client.predict(image(f"flaky {tmp_path / 'count'} 2"), "toy", request_id=given_up, timeout=60)
    listed = documents(run(toy_api.url, "dead-letters", "--json").stdout)[0]["dead_letters"]
    assert given_up in {letter["request_id"] for letter in listed}
    assert given_up in run(toy_api.url, "dead-letters").stdout
    shown = run(toy_api.url, "dead-letters", "show", given_up)
    assert (shown.returncode, "told to fail" in shown.stdout) == (0, True)
    assert run(toy_api.url, "dead-letters", "requeue", given_up).returncode == 1
    assert admin(toy_api, "dead-letters", "requeue", "--timeout", "30", given_up).returncode == 0
    assert client.job(given_up).result(60).attempts >= 1
    with pytest.raises(Failed):
        client.predict(image("error"), "toy", timeout=60)
    assert admin(toy_api, "dead-letters", "delete", "all").returncode == 0
    assert "no dead letters" in run(toy_api.url, "dead-letters").stdout
    assert run(toy_api.url, "dead-letters", "show").returncode == 2
    assert run(toy_api.url, "dead-letters", "show", given_up).returncode == 1


def test_a_key_is_created_listed_changed_and_revoked(toy_api: ApiProcess) -> None:
    created = admin(toy_api, "keys", "create", "--role", "admin", "--weight", "2", "bob", "--json")
    assert "asks for no keys" in created.stderr
    (made,) = documents(created.stdout)
    assert run(toy_api.url, "keys", "--api-key", made["key"]).returncode == 0
    assert "shown only now: il_" in admin(toy_api, "keys", "create", "bob").stdout
    assert admin(toy_api, "keys", "set", "bob", "--cap", "5", "--quota", "1000").returncode == 0
    assert admin(toy_api, "keys", "weight", "bob", "3").stdout == "bob: weight 3, cap 5, quota 1000\n"
    changed = admin(toy_api, "keys", "set", "bob", "--quota", "default").stdout
    assert changed == "bob: weight 3, cap 5, quota default\n"
    assert admin(toy_api, "keys", "weight", "bob", "default").stdout == "bob: weight 1, cap 5, quota default\n"
    assert "now of role user" in admin(toy_api, "keys", "role", made["id"], "user").stdout
    wait_until(lambda: run(toy_api.url, "keys", "--api-key", made["key"]).returncode == 1, what="the role")
    (line,) = [line.split() for line in admin(toy_api, "keys").stdout.splitlines() if line.startswith(made["id"])]
    assert line[1:8] == ["bob", "user", "1", "5", "default", "run", "time"]
    assert admin(toy_api, "keys", "revoke", made["id"]).stdout == f"{made['id']} is revoked\n"
    assert made["id"] not in admin(toy_api, "keys", "list").stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [("create", 2), ("create a b", 2), ("list bob", 2), ("revoke", 2), ("weight bob", 2), ("weight bob much", 2),
     ("revoke nobodys", 1), ("role ADMIN_KEY user", 1), ("weight nobody 2", 1), ("create a/b", 1),
     ("revoke x --role user", 2), ("weight bob 1 --cap 2", 2), ("set bob", 2),
     ("set bob --cap x", 2), ("set bob --cap -1", 1), ("rename", 2)],
)  # fmt: skip
def test_wrong_orders_about_keys_are_one_line(toy_api: ApiProcess, words: str, code: int) -> None:
    done = admin(toy_api, "keys", *words.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_the_audit_log_is_listed_and_exported(toy_api: ApiProcess) -> None:
    assert run(toy_api.url, "audit").returncode == 1
    assert admin(toy_api, "queues", "--pause", "low.toy").returncode == 0
    assert admin(toy_api, "queues", "--resume", "low.toy").returncode == 0
    newest = admin(toy_api, "audit", "-n", "2").stdout
    assert [line.split()[-1] for line in newest.splitlines()[-2:]] == [
        "/admin/lanes/low.toy/resume",
        "/admin/lanes/low.toy/pause",
    ]
    entries = documents(admin(toy_api, "audit", "--all", "--json").stdout)
    assert [entry["status"] for entry in entries if entry["path"] == "/admin/audit?limit=500"][-1] == 401


def test_load_is_sent_at_the_rate_and_accounted_for(toy_api: ApiProcess, tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(image())
    arguments = ("load", tmp_path, "-m", "toy", "-r", "40", "-d", "2", "--seed", "7")
    done = run(toy_api.url, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    (report,) = documents(done.stdout)
    assert report["sent"] == report["succeeded"] > 40
    assert 0 < report["latency"]["p50"] <= report["latency"]["p99"] <= report["latency"]["max"]
    assert "p99" in run(toy_api.url, *arguments).stdout


def test_load_tells_errors_and_an_absent_api(toy_api: ApiProcess, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "a.gif").write_bytes(b"no image")
    done = run(toy_api.url, "load", tmp_path / "a.gif", "-r", "20", "-d", "0.5", "--json")
    assert done.returncode == 1
    assert documents(done.stdout)[0]["errors"].keys() == {"unsupported_image"}
    assert run(f"http://127.0.0.1:{free_port}", "load", tmp_path, "-d", "0.5").returncode == 3
    assert run(toy_api.url, "load", tmp_path, "-r", "0").returncode == 2


def test_doctor_finds_only_what_is_wrong_and_sends_a_photo(toy_api: ApiProcess, tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(image())
    done = run(toy_api.url, "doctor", "--json", "--photo", tmp_path / "a.gif")
    found = findings(done)
    assert {name for name, one in found.items() if one["verdict"] == "problem"} == {"health: no_worker"}  # of resnet18
    assert done.returncode == 1
    assert found["clock"]["verdict"] == found["ready: broker"]["verdict"] == found["a request"]["verdict"] == "ok"
    assert (found["inside"]["verdict"], "not checked" in found["inside"]["detail"]) == ("unknown", True)
    assert "INFERLANE_API_KEY" in found["inside"]["remedy"]
    shown = run(toy_api.url, "doctor").stdout
    assert "clock" in shown
    assert "1 unknown" in shown


def test_doctor_finds_random_weights_and_a_missing_worker(stack: Stack) -> None:
    stack.start_worker("squeezenet", ALLOW_RANDOM_WEIGHTS=1, MODELS="squeezenet,resnet18", timeout=120)
    api = stack.start_api(MODELS="squeezenet,resnet18")
    done = run(api.url, "doctor", "--json")
    assert done.returncode == 1
    assert findings(done)["health: random_weights"]["verdict"] == "problem"
    assert "resnet18" in findings(done)["health: no_worker"]["detail"]


def test_doctor_with_the_key_sees_inside_and_fails_when_something_is_wrong_there(
    stack: Stack, own_redis: RedisServer
) -> None:
    stack.start_worker("tests.toy:toy", name="toy-1", MODELS="toy", INTRA_OP_THREADS=1)
    api = stack.start_api(MODELS="toy", ADMIN_KEY=ADMIN_KEY)
    sound = admin(api, "doctor", "--json")
    assert findings(sound)["inside: eviction"]["verdict"] == "ok", sound.stdout
    assert "inside" not in findings(sound)
    assert sound.returncode == 0, sound.stdout
    with redis.Redis.from_url(own_redis.url) as server:
        server.config_set("maxmemory-policy", "allkeys-lru")
    sick = admin(api, "doctor", "--json")
    assert (sick.returncode, findings(sick)["inside: eviction"]["verdict"]) == (1, "problem")
    assert "noeviction" in admin(api, "doctor").stdout


def test_an_installation_without_an_administrators_key_is_told_how_to_make_one(stack: Stack) -> None:
    api = stack.start_api(MODELS="toy")
    assert "ADMIN_KEY=" in findings(run(api.url, "doctor", "--json"))["inside"]["remedy"]
    order = run(api.url, "queues", "--pause", "low.toy")
    assert (order.returncode, "ADMIN_KEY=" in order.stderr) == (1, True)
    stranger = run(api.url, "queues", "--pause", "low.toy", "--api-key", "guessed")
    assert (stranger.returncode, "does not know this key" in stranger.stderr) == (1, True)


def test_doctor_without_workers(stack: Stack) -> None:
    api = stack.start_api(MODELS=MODELS)
    assert findings(run(api.url, "doctor", "--json"))["health: no_worker"]["verdict"] == "problem"


def test_an_api_that_asks_for_keys_is_told_apart(stack: Stack) -> None:
    api = stack.start_api(MODELS=MODELS, AUTH="on", ADMIN_KEY=ADMIN_KEY)
    refused = run(api.url, "workers")
    assert (refused.returncode, "INFERLANE_API_KEY" in refused.stderr) == (1, True)
    assert admin(api, "workers").returncode == 0
    assert "unknown" in run(api.url, "doctor").stdout
