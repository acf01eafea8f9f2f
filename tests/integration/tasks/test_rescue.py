"""Workers die, freeze, come back, share a name: no request is lost, none is answered twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.keys import Keys
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.stack import EACH_STORE, Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


def running_on(gateway: Gateway, request_id: str, node: str) -> bool:
    request = gateway.get(request_id)
    return request.state is State.RUNNING and request.worker_id == node


@EACH_STORE
def test_a_killed_workers_requests_run_elsewhere_within_three_seconds(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    victim = toy("victim")
    ids = [send("sleep 0.3") for _ in range(20)] + [send("sleep 30;ok")]
    wait_until(lambda: running_on(gateway, ids[-1], victim.node))
    toy("other")
    victim.kill()
    killed_at = time.time()
    gateway.cancel(ids[-1])  # its answer is not awaited; that it is given back is
    requests = all_ended(gateway, ids, 20)
    rescued = [event["at"] for r in requests for event in r.timeline if event["event"] == "worker_died"]
    assert rescued
    assert max(rescued) - killed_at <= 3.0
    check_answered_once(requests)
    check_books(monitor, requests)


def test_a_message_published_to_a_frozen_worker_survives_its_death(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    """Stock kombu loses it: the frozen worker's BRPOP takes the message and nobody wrote down who has it."""
    ids = []
    for round_ in range(3):
        victim = toy(f"victim-{round_}")
        gateway.wait(send(), 10)
        victim.send(signal.SIGSTOP)
        ids.append(send())
        victim.kill()
    toy("other")
    requests = all_ended(gateway, ids, 15)
    assert {request.state for request in requests} == {State.SUCCEEDED}


def test_a_frozen_worker_that_wakes_up_changes_nothing(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    sleeper = toy("sleeper")
    ran = tmp_path / "ran"
    request_id = send(f"ran {ran};sleep 1")
    wait_until(ran.exists)
    sleeper.send(signal.SIGSTOP)
    toy("other")
    request = gateway.wait(request_id, 15)
    assert (request.state, request.attempts) == (State.SUCCEEDED, 2)
    completed = request.completed_at
    sleeper.send(signal.SIGCONT)
    wait_until(lambda: monitor.counters()["fenced"] == 1, 10)
    again = gateway.get(request_id)
    assert (again.completed_at, again.worker_id) == (completed, request.worker_id)
    check_answered_once([again])
    # Declared dead and back: it registers again and is useful again.
    wait_until(lambda: len(monitor.workers()) == 2, 10)
    requests = all_ended(gateway, [send("sleep 0.2") for _ in range(40)], 20)
    assert {r.worker_id for r in requests} == {sleeper.node, request.worker_id}


@EACH_STORE
def test_a_request_that_ends_its_process_becomes_a_dead_letter_and_its_companions_succeed(
    toy: Toy, stack: Stack, gateway: Gateway, monitor: Monitor
) -> None:
    workers = [toy(f"toy-{i}") for i in range(5)]
    texts = ["exit" if i == 5 else "sleep 0.05;ok" for i in range(16)]
    accepted = gateway.submit_many([Submission(image=t.encode(), model_type="toy") for t in texts])
    requests = all_ended(gateway, [a.id for a in accepted if isinstance(a, Accepted)], 40)
    poison = requests[5]
    assert {r.state for r in requests if r is not poison} == {State.SUCCEEDED}
    assert poison.state is State.FAILED
    assert poison.error is not None
    assert poison.error["code"] == "poison"
    answered, faults = monitor.ends(5)["toy"]
    assert answered <= 15  # each process that ended took its last second of statistics along
    assert faults == 1
    assert poison.attempts <= 4  # the first time it does not run alone
    deaths = [event for event in poison.timeline if event["event"] == "worker_died"]
    assert len({event["worker"] for event in deaths}) == 4
    assert sum(worker.alive for worker in workers) == 1
    check_books(monitor, requests)


def test_a_retry_outlives_its_worker_without_a_rescue(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack, tmp_path: Path
) -> None:
    keys = Keys(stack.settings().key_prefix)
    victim = toy("victim", RETRY_BACKOFF=6, RETRY_JITTER=0)
    request_id = send(f"flaky {tmp_path / 'count'} 1")
    wait_until(lambda: any(e["event"] == "retry" for e in gateway.get(request_id).timeline))
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        assert client.zcard(keys.retries) == 1
        assert client.keys(f"{keys.prefix}unacked:*") == [], "the worker holds nothing"
    assert gateway.get(request_id).state is State.QUEUED
    victim.kill()
    other = toy("other")
    request = gateway.wait(request_id, 20)
    assert (request.state, request.attempts, request.worker_id) == (State.SUCCEEDED, 2, other.node)
    events = [event["event"] for event in request.timeline]
    assert events == ["accepted", "started", "retry", "started", "succeeded"], "nobody has rescued it"
    at = {event["event"]: event["at"] for event in request.timeline}  # the last of each
    assert at["started"] - at["retry"] >= 6.0
    check_books(monitor, [request])


def test_a_retry_waits_for_a_worker_and_can_be_canceled_or_expire(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    worker = toy("toy-1", RETRY_BACKOFF=5, RETRY_JITTER=0, MAX_BATCH=1)
    deadlines = {"a": None, "b": 3, "c": None}
    ids = [send(f"flaky {tmp_path / name} 1", deadline=deadline) for name, deadline in deadlines.items()]
    wait_until(lambda: monitor.counters()["retried"] == 3)
    gateway.cancel(ids[2])
    assert worker.stop() == 0
    assert {row["lane"]: row["depth"] for row in monitor.lanes()}["normal.toy"] == 2
    time.sleep(6)  # due, and nobody is there
    assert gateway.get(ids[0]).state is State.QUEUED
    toy("toy-2")
    requests = all_ended(gateway, ids, 10)
    assert [(r.state, r.attempts) for r in requests] == [
        (State.SUCCEEDED, 2), (State.EXPIRED, 1), (State.CANCELED, 1),
    ]  # fmt: skip
    check_books(monitor, requests)


def test_a_long_request_is_never_run_twice_while_its_worker_lives(
    toy: Toy, send: Send, gateway: Gateway, own_redis: RedisServer, tmp_path: Path
) -> None:
    """Longer than several leases, across a broken connection, with an idle worker beside it."""
    toy("toy-1")
    ran = tmp_path / "ran"
    request_id = send(f"ran {ran};sleep 8")
    wait_until(ran.exists)
    toy("toy-2")
    with redis.Redis.from_url(own_redis.url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    request = gateway.wait(request_id, 20)
    assert (request.state, request.attempts) == (State.SUCCEEDED, 1)
    assert len(ran.read_text().splitlines()) == 1


def test_two_workers_of_one_name_in_turn_orphan_nothing(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack
) -> None:
    first = toy("same")
    ids = [send("sleep 1") for _ in range(4)]
    wait_until(lambda: running_on(gateway, ids[0], first.node))
    first.kill()
    second = toy("same")
    requests = all_ended(gateway, ids, 20)
    assert {(r.state, r.worker_id) for r in requests} == {(State.SUCCEEDED, second.node)}
    check_books(monitor, requests)
    assert second.stop() == 0
    keys = Keys(stack.settings().key_prefix)
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.hlen(keys.workers) == 0
        assert client.keys(f"{keys.prefix}unacked:*") == []


def test_sigterm_finishes_what_runs_and_gives_back_the_rest(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    worker = toy("leaver", "-c", "2")
    ids = [send("sleep 1") for _ in range(6)]
    wait_until(lambda: monitor.ledger()["normal.toy"]["running"] == 2)
    assert worker.stop() == 0
    row = monitor.ledger()["normal.toy"]
    assert (row["succeeded"], row["queued"], row["running"]) == (2, 4, 0)
    toy("other")
    assert {r.attempts for r in all_ended(gateway, ids, 10)} == {1}


def test_a_hung_forward_pass_ends_the_worker_and_its_other_requests_succeed(
    toy: Toy, send: Send, gateway: Gateway, tmp_path: Path
) -> None:
    hung = toy("hung", HARD_TIMEOUT=2, MAX_BATCH=1)
    stuck = send(f"ran {tmp_path / 'ran'};sleep 60")
    wait_until((tmp_path / "ran").exists)
    waiting = send("ok")
    wait_until(lambda: running_on(gateway, waiting, hung.node))
    gateway.cancel(stuck)
    toy("other")
    assert hung.wait(10) == 75
    assert "HARD_TIMEOUT" in hung.log()
    assert gateway.wait(waiting, 10).state is State.SUCCEEDED


def celery(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celery", "-A", "tasks", *arguments]
    environ = stack.environ(CHAOS_ENABLED=1)
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_celery_control_causes_faults_in_one_worker_only(toy: Toy, stack: Stack, monitor: Monitor) -> None:
    victim, other = toy("victim", CHAOS_ENABLED=1), toy("other", CHAOS_ENABLED=1)
    assert celery(stack, "control", "-d", other.node, "chaos", "slow", "0.1").returncode == 0
    wait_until(
        lambda: {row["id"]: row["chaos"] for row in monitor.workers()} == {victim.node: "off", other.node: "slow"}
    )
    celery(stack, "control", "-d", victim.node, "chaos", "crash")
    assert victim.wait(10) == -signal.SIGKILL
    assert other.alive


def test_faults_are_refused_unless_chaos_is_enabled(toy: Toy, stack: Stack) -> None:
    worker = toy("toy-1")
    answer = celery(stack, "control", "-d", worker.node, "chaos", "crash")
    assert "CHAOS_ENABLED" in answer.stdout
    assert worker.alive
    started = stack.start_worker("tests.toy:toy", name="toy-2", arguments=["--chaos", "slow"], ready=False)
    assert started.wait(30) == 1
    assert "CHAOS_ENABLED" in started.log()


@pytest.mark.parametrize("settled", [False, True])
def test_nobody_is_declared_dead_right_after_redis_was_out_of_reach(settled: bool) -> None:
    from tasks.worker.rescue import GracePeriod

    grace = GracePeriod(4.0, reachable=10.0 if settled else 1.0)
    assert grace.over is settled
    grace.restart()
    assert not grace.over
