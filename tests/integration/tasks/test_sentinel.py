"""Failover behind real redis-sentinel processes: the master dies, a replica is promoted, everybody follows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tasks.errors import TaskError
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.redis_server import RedisServer, redis_executable
from tests.support.stack import Stack
from tests.support.waiting import wait_until


class Sentinels:
    """A master, a replica and three sentinels that agree by two."""

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(folder / "master")
        self.replica = RedisServer(folder / "replica")
        with redis.Redis.from_url(self.replica.url) as client:
            client.replicaof("127.0.0.1", self.master.port)
        self.ports = [free_port() for _ in range(3)]
        self._sentinels = [self._start(folder / f"sentinel-{port}", port) for port in self.ports]
        wait_until(lambda: all(self._sees_everybody(port) for port in self.ports), 20, what="sentinels agree")

    @property
    def url(self) -> str:
        return ";".join(f"sentinel://127.0.0.1:{port}" for port in self.ports) + "/0"

    def stop(self) -> None:
        for process in self._sentinels:
            process.stop()
        self.master.stop()
        self.replica.stop()

    def _start(self, folder: Path, port: int) -> Process:
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {self.master.port} 2\n"
            "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 4000\n"
        )
        command = [redis_executable(), str(config), "--sentinel"]
        return Process(command, name=f"sentinel-{port}", folder=folder, environ=os.environ)

    def _sees_everybody(self, port: int) -> bool:
        try:
            with redis.Redis(port=port, decode_responses=True, socket_timeout=2) as client:
                seen = client.sentinel_master("mymaster")
        except redis.RedisError:
            return False
        return bool(seen["num-slaves"] == 1 and seen["num-other-sentinels"] == 2)


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    started = Sentinels(tmp_path / "redis")
    yield started
    started.stop()


@pytest.mark.slow
def test_workers_and_callers_follow_a_failover(sentinels: Sentinels, tmp_path: Path) -> None:
    with Stack(sentinels.url, tmp_path / "run", MODELS="toy") as stack:
        gateway, monitor = Gateway(stack.settings()), Monitor(stack.settings())
        worker = stack.start_worker("tests.toy:toy")
        before = [gateway.submit(Submission(image=b"ok", model_type="toy")).id for _ in range(20)]
        all_ended(gateway, before, 20)
        with redis.Redis.from_url(sentinels.master.url) as client:
            wait_until(lambda: client.wait(1, 1000) == 1)  # what was accepted so far is on the replica
        sentinels.master.kill()
        killed = time.monotonic()

        def answered() -> bool:
            try:
                _, record = gateway.submit_and_wait(Submission(image=b"ok", model_type="toy"), 2)
            except TaskError:
                return False
            return record is not None and record.state is State.SUCCEEDED

        wait_until(answered, 30, interval=0.2, what="an answer after the failover")
        assert time.monotonic() - killed < 20
        after = all_ended(
            gateway, [gateway.submit(Submission(image=b"ok", model_type="toy")).id for _ in range(20)], 20
        )
        assert {request.state for request in after} == {State.SUCCEEDED}
        kept = all_ended(gateway, [request.id for request in monitor.recent(limit=1000)[0]], 20)
        assert {request.id for request in kept} >= set(before)
        check_books(monitor, kept)
        check_answered_once(kept)
        assert worker.alive
        gateway.close()
