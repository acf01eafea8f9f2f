"""An accepted request is answered although its message was thrown away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import redis

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.keys import Keys
from tasks.protocol.requests import State
from tests.integration.tasks.conftest import TOY
from tests.support.oracle import all_ended, check_books
from tests.support.processes import ROOT
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


def celery(stack: Stack, *arguments: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "tasks", *arguments]
    subprocess.run(command, cwd=ROOT, env=stack.environ(MODELS=TOY), capture_output=True, timeout=120, check=True)


@pytest.fixture
def raw(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.settings().redis_url)


def submit_batch(gateway: Gateway, count: int) -> list[str]:
    answers = gateway.submit_many([Submission(image=b"ok", model_type="toy") for _ in range(count)])
    return [answer.id for answer in answers if isinstance(answer, Accepted)]


def test_celery_purge_loses_no_request(toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor) -> None:
    ids = [send(priority=priority) for priority in ("high", "normal", "low")] + submit_batch(gateway, 30)
    celery(stack, "purge", "--force", "--queues=high.toy,normal.toy,low.toy")
    toy("toy-1")
    requests = all_ended(gateway, ids, 40)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    assert monitor.counters()["republished"] == 33
    check_books(monitor, requests)


def test_a_deleted_lane_loses_no_request(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor, raw: redis.Redis
) -> None:
    toy("toy-1", CONCURRENCY=1)
    running = send("sleep 3")
    wait_until(lambda: gateway.get(running).state is State.RUNNING)
    ids = [send(f"ok {number}") for number in range(80)]
    raw.delete(Keys(stack.settings().key_prefix).lane("normal.toy"))
    requests = all_ended(gateway, [running, *ids], 60)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    assert monitor.counters()["republished"] > 0
    check_books(monitor, requests)


def test_a_revoked_task_is_published_again_under_another_task_id(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    toy("toy-1")
    first = gateway.wait(send(), 10)
    request_id = "0190a000-0000-7000-8000-000000000001"
    celery(stack, "control", "revoke", request_id)
    request = gateway.wait(send(request_id=request_id), 40)
    assert request.state is State.SUCCEEDED
    assert [event["event"] for event in request.timeline] == ["accepted", "republished", "started", "succeeded"]
    check_books(monitor, [first, request])


def test_nothing_is_published_twice_under_load(toy: Toy, gateway: Gateway, monitor: Monitor) -> None:
    toy("toy-1"), toy("toy-2")
    ids = [request_id for _ in range(8) for request_id in submit_batch(gateway, 40)]
    requests = all_ended(gateway, [*ids, *submit_batch(gateway, 200)], 60)
    assert {request.attempts for request in requests} == {1}
    assert monitor.counters()["republished"] == 0
