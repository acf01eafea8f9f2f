"""A host shuts down: every process gets SIGTERM at once, and Redis is among the first to end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.support.caller import Caller
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until
from tests.toy import GIF

#: What a Linux host gives its services, and a container less than half of: seconds.
GRACE = 30.0


def tree(process: Process) -> list[int]:
    """The process and everything it has started."""
    first = process.guardian if isinstance(process, WorkerProcess) else process.pid
    return [first, *(child.pid for child in psutil.Process(first).children(recursive=True))]


@pytest.fixture
def flower(stack: Stack) -> Iterator[Process]:
    environ = stack.environ(FLOWER_PORT=free_port())
    process = Process([sys.executable, "-m", "scripts.flower"], name="flower", folder=stack.folder, environ=environ)
    yield process
    process.kill()


@pytest.fixture
def dashboard(stack: Stack) -> Iterator[Process]:
    environ = stack.environ(DASHBOARD_PORT=free_port())
    process = Process([sys.executable, "-m", "dashboard"], name="dashboard", folder=stack.folder, environ=environ)
    yield process
    process.kill()


def test_all_of_it_ends_within_the_grace_of_a_host_and_requests_run_after_the_restart(
    stack: Stack, own_redis: RedisServer, dashboard: Process, flower: Process
) -> None:
    worker = stack.start_worker("tests.toy:toy", name="leaver")
    api = stack.start_api(workers=2, MODELS="toy")
    caller = Caller(stack, api)
    order = {"content": GIF + b"sleep 3", "headers": {"Content-Type": "image/gif", "Prefer": "respond-async"}}
    ids = [api.client.post("/inference?model_type=toy", **order).json()["request_id"] for _ in range(4)]
    wait_until(lambda: caller.monitor.ledger()["normal.toy"]["running"] > 0, what="one of them runs")
    # A caller who follows a request to its end keeps a connection open.
    with api.client.stream("GET", f"/inference/{ids[-1]}/events") as stream:
        assert stream.status_code == 200
        told = time.monotonic()
        everything = [own_redis.process, api, dashboard, flower, worker]
        for pid in (pid for process in everything for pid in tree(process)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        took = {process.name: ended(process, told) for process in everything}
    assert max(took.values()) < GRACE, took
    own_redis.start()
    stack.start_worker("tests.toy:toy", name="next")
    caller_again = stack.start_api(MODELS="toy").client
    for request_id in ids:
        wait_until(
            lambda name=request_id: caller_again.get(f"/inference/{name}").json()["state"] == "succeeded",  # type: ignore[misc]
            30, what="it is answered after the restart",
        )  # fmt: skip


def ended(process: Process, told: float) -> float:
    """Seconds from the signal to its end."""
    process.wait(max(0.1, told + GRACE - time.monotonic()))
    return time.monotonic() - told
