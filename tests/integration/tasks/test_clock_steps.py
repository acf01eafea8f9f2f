"""The clock of Redis' host is set by an hour, either way: only the dead are rescued; deadlines and retries hold."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended
from tests.support.redis_server import RedisServer
from tests.support.stack import WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)

# libfaketime and jemalloc, with which Debian builds redis-server, wait for each other when a process begins.
pytestmark = [
    pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed"),
    pytest.mark.skipif(bool(os.environ.get("REDIS_SERVER")), reason="only the bundled Valkey starts with libfaketime"),
]


class Clock:
    """The clock of one server, as a file says."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        self.file.write_text(offset)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(tmp_path / "clock")
    environ = {
        "LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(found.file), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def own_redis(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A server whose clock the test sets; no other process has a false one."""
    server = RedisServer(tmp_path / "redis")
    for name in ("LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE"):
        monkeypatch.delenv(name)
    assert "LD_PRELOAD" not in os.environ
    yield server
    server.stop()


@pytest.mark.parametrize("step", ["-1h", "+1h"])
def test_a_step_stops_no_rescue_kills_nobody_and_keeps_deadlines(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, clock: Clock, step: str, tmp_path: Path
) -> None:
    doomed, other = (toy(name, RETRY_BACKOFF=8, RETRY_JITTER=0) for name in ("toy-1", "toy-2"))
    gateway.wait(send(), 10)
    wait_until(lambda: len(monitor.workers()) == 2)
    time.sleep(5)  # past the time after a start of Redis in which nobody is declared dead
    monitor_counts = monitor.counters()
    retry = send(f"flaky {tmp_path / 'count'} 1")
    wait_until(lambda: monitor.counters()["retried"] == 1)
    waits = [gateway.submit(Submission(image=b"ok", model_type="resnet18", deadline=600)).id for _ in range(3)]
    clock.set(step)
    time.sleep(3)
    assert gateway.get(retry).state is State.QUEUED, "its time has moved along"
    assert monitor.counters()["workers_lost"] == monitor_counts["workers_lost"]
    assert {gateway.get(name).state for name in waits} == {State.QUEUED}
    running = [send("sleep 3") for _ in range(4)]
    wait_until(lambda: sum(row["running"] for row in monitor.ledger().values()) >= 2)
    doomed.kill()
    began = time.monotonic()
    requests = all_ended(gateway, [*running, retry], 30)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    assert time.monotonic() - began < 25
    assert other.alive
    assert {gateway.get(name).state for name in waits} == {State.QUEUED}
    late = gateway.submit(Submission(image=b"ok", model_type="resnet18", deadline=1)).id
    wait_until(lambda: gateway.get(late).state is State.EXPIRED, 10)
