"""The broker process: ours when nothing answers, a watcher when something does, one clear line when neither can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from scripts import broker
from tasks import servers
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.redis_server import RedisServer, redis_executable
from tests.support.waiting import wait_until


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[object]:
    started: list[Process] = []

    def start(url: str) -> Process:
        environ = {**os.environ, "REDIS_URL": url, "RUN_DIR": str(tmp_path), "LOG_FORMAT": "console"}
        command = [sys.executable, "-m", "scripts.broker"]
        started.append(Process(command, name="broker", folder=tmp_path, environ=environ))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def test_it_becomes_a_loopback_server_that_appends_and_never_evicts(start_broker, tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    process = start_broker(url)
    wait_until(lambda: broker.answers(url), what="the broker answers")
    with redis.Redis.from_url(url) as client:
        wanted = client.config_get("bind", "appendonly", "appendfsync", "maxmemory-policy", "dir")
        assert wanted["bind"] == "127.0.0.1"
        assert (wanted["appendonly"], wanted["appendfsync"]) == ("yes", "everysec")
        assert wanted["maxmemory-policy"] == "noeviction"
        assert Path(wanted["dir"]) == tmp_path / "redis"
        assert client.info("server")["process_id"] == process.pid
    process.send(signal.SIGTERM)
    assert process.wait(10) == 0


def test_what_was_written_is_there_after_a_kill(start_broker) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    first = start_broker(url)
    wait_until(lambda: broker.answers(url), what="the broker answers")
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
    first.kill()
    start_broker(url)
    wait_until(lambda: broker.answers(url), what="the broker answers again")
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_a_redis_that_already_answers_is_only_watched(start_broker, own_redis: RedisServer) -> None:
    process = start_broker(own_redis.url)
    wait_until(lambda: "only watches it" in process.log(), what="the watcher's line")
    process.send(signal.SIGTERM)
    assert process.wait(10) == 0
    assert broker.answers(own_redis.url)


def test_an_unreachable_redis_elsewhere_ends_with_one_line_and_no_password(start_broker) -> None:
    # 192.0.2.0/24 is reserved for documentation: nothing answers there.
    process = start_broker("redis://:secret@192.0.2.1:6379/0")
    assert process.wait(20) == 1
    lines = process.log().splitlines()
    assert len(lines) == 1
    assert "nothing answers at REDIS_URL" in lines[0]
    assert "secret" not in lines[0]


def test_the_bundled_valkey_runs_unless_another_program_is_asked_for(tmp_path: Path, own_redis: RedisServer) -> None:
    assert broker.executable() == broker.bundled_executable()
    with redis.Redis.from_url(own_redis.url) as client:
        running = " ".join(servers.identity(client.info("server")))
    said = subprocess.run([redis_executable(), "--version"], capture_output=True, text=True, check=True).stdout
    assert running.split()[0] == said.split()[0]
    assert f"v={running.split()[1]}" in said


def program(folder: Path, name: str, version: str) -> Path:
    """Something that says what a server program of this version says."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version} sha=00000000:0 malloc=libc bits=64'\n")
    path.chmod(0o755)
    return path


def test_without_the_bundled_one_an_old_program_on_the_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "bundled_executable", lambda: "")
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "valkey-server", "Valkey server v=7.1.0")
    new = program(tmp_path, "redis-server", "Redis server v=7.0.15")
    assert broker.executable() == str(new)
    program(tmp_path, "redis-server", "Redis server v=6.2.14")
    with pytest.raises(broker.BrokerError, match=r"install Redis 7\.0 or later, or Valkey 7\.2 or later"):
        broker.executable()


def test_a_program_that_was_asked_for_must_be_there_and_new_enough(tmp_path: Path) -> None:
    old = program(tmp_path, "redis-server", "Redis server v=6.2.14")
    with pytest.raises(broker.BrokerError, match=r"Redis 6\.2\.14 is too old: run Redis 7\.0 or later"):
        broker.executable(str(old))
    with pytest.raises(broker.BrokerError, match="REDIS_SERVER names no program"):
        broker.executable(str(tmp_path / "none"))
