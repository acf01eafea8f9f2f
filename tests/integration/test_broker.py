"""The broker process: ours when nothing answers, a watcher when something does, one clear line when neither can be."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection

from celeryconfig import _as_kombu_spells
from common.settings import load_settings
from scripts import broker
from tasks.protocol import servers
from tests.support.processes import Process
from tests.support.redis_server import RedisServer, redis_executable
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from worker_models.machine import memory_bytes


class Broker:
    """The broker process of a run directory, and where it answers."""

    def __init__(self, folder: Path, **environ: object) -> None:
        stack = Stack("", folder, **environ)
        self.settings = stack.settings()
        self.url = self.settings.redis_url
        command = [sys.executable, "-m", "scripts.broker"]
        self.process = Process(command, name="broker", folder=folder, environ=stack.environ())

    def wait(self) -> Broker:
        wait_until(lambda: self.process.check_alive() or broker.answers(self.url), what="the broker answers")
        return self


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    started: list[Broker] = []

    def start(folder: Path = tmp_path / "run", **environ: object) -> Broker:
        started.append(Broker(folder, **environ))
        return started[-1]

    yield start
    for one in started:
        one.process.stop()


def test_it_becomes_a_server_that_appends_and_never_evicts(start_broker: Callable[..., Broker]) -> None:
    running = start_broker().wait()
    with redis.Redis.from_url(running.url) as client:
        wanted = client.config_get("port", "appendonly", "appendfsync", "maxmemory-policy", "dir")
        assert (wanted["port"], wanted["appendonly"], wanted["appendfsync"]) == ("0", "yes", "everysec")
        assert wanted["maxmemory-policy"] == "noeviction"
        assert Path(wanted["dir"]) == running.settings.broker_folder
        assert client.info("server")["process_id"] == running.process.pid
    running.process.send(signal.SIGTERM)
    assert running.process.wait(10) == 0


def test_what_was_written_is_there_after_a_kill(start_broker: Callable[..., Broker]) -> None:
    first = start_broker().wait()
    with redis.Redis.from_url(first.url) as client:
        client.set("kept", "yes")
    first.process.kill()
    again = start_broker().wait()
    with redis.Redis.from_url(again.url) as client:
        assert client.get("kept") == b"yes"


def test_its_memory_is_a_share_of_the_machines_unless_set(start_broker: Callable[..., Broker], tmp_path: Path) -> None:
    with redis.Redis.from_url(start_broker().wait().url) as client:
        assert int(client.config_get("maxmemory")["maxmemory"]) == memory_bytes() // broker.SHARE
    with redis.Redis.from_url(start_broker(tmp_path / "set", REDIS_MAXMEMORY=50_000_000).wait().url) as client:
        assert client.config_get("maxmemory")["maxmemory"] == "50000000"


def modes(folder: Path) -> set[tuple[str, str]]:
    """Type and permissions of everything in a folder."""
    found = [item.lstat().st_mode for item in [folder, *folder.rglob("*")]]
    return {(stat.filemode(mode)[0], stat.filemode(mode)[4:]) for mode in found}


def test_nobody_else_may_read_or_enter_anything_of_it(start_broker: Callable[..., Broker]) -> None:
    running = start_broker().wait()
    nothing = "------"
    assert modes(running.settings.broker_folder) == {("d", nothing), ("-", nothing), ("s", nothing)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_of_the_machine_is_refused(start_broker: Callable[..., Broker], tmp_path: Path) -> None:
    for folder in (
        tmp_path,
        *tmp_path.parents[:-2],
    ):  # pytest closes its folders; only the broker's shall keep them out
        folder.chmod(0o755)
    running = start_broker().wait()
    connect = f"import os, socket; {{}}; socket.socket(socket.AF_UNIX).connect({str(running.settings.broker_socket)!r})"
    for become, fault in (("os.getuid()", ""), ("os.setegid(65534); os.seteuid(65534)", "PermissionError")):
        command = [sys.executable, "-c", connect.format(become)]
        told = subprocess.run(command, check=False, capture_output=True, text=True).stderr
        assert fault in told
        assert bool(told) == bool(fault)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with the user of the embedded one, and without the locks that servers have besides users."""
    unlocked = ["--enable-module-command", "yes", "--enable-debug-command", "yes", "--enable-protected-configs", "yes"]
    server = RedisServer(tmp_path_factory.mktemp("guarded"), options=[*unlocked, "--user", "default", *broker.RULES])
    yield server
    server.stop()


@pytest.mark.parametrize(
    "order",
    [
        "MODULE LOAD evil.so", "MODULE LIST", "CONFIG SET dir /tmp", "CONFIG SET dbfilename x", "CONFIG REWRITE",
        "DEBUG SLEEP 0", "REPLICAOF 192.0.2.1 6379", "SLAVEOF 192.0.2.1 6379", "MIGRATE 192.0.2.1 6379 key 0 100",
        "SHUTDOWN", "SAVE", "BGREWRITEAOF", "FLUSHALL", "FLUSHDB", "ACL SETUSER default +@all", "ACL LIST", "MONITOR",
        "FAILOVER", "SWAPDB 0 1", "KEYS *", "CLUSTER RESET", "CLIENT PAUSE 1000", "SYNC", "PSYNC ? -1",
    ],
)  # fmt: skip
def test_the_rules_close_orders_to_the_server_itself(guarded: RedisServer, order: str) -> None:
    with redis.Redis.from_url(guarded.url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*order.split())


def test_the_broker_has_those_rules(start_broker: Callable[..., Broker]) -> None:
    with redis.Redis.from_url(start_broker().wait().url) as client:
        for order in ("CONFIG SET dir /tmp", "REPLICAOF 192.0.2.1 6379", "ACL LIST"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*order.split())
        with pytest.raises(redis.ResponseError, match="not allowed"):
            client.execute_command("MODULE", "LOAD", "evil.so")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a path that leaves room for a socket's; pytest's own may be too long."""
    with tempfile.TemporaryDirectory(prefix="i") as folder:
        yield Path(folder)


def test_a_path_with_odd_characters_or_too_long_for_a_socket_is_reached_all_the_same(
    start_broker: Callable[..., Broker], tmp_path: Path, short_path: Path
) -> None:
    odd = start_broker(short_path / "a b%20#?;é").wait()
    long = start_broker(tmp_path / ("x" * 120)).wait()
    assert odd.settings.broker_socket.parent == odd.settings.broker_folder
    assert long.settings.broker_socket.parent == Path("/tmp") / long.settings.broker_socket.parent.name  # noqa: S108
    assert modes(long.settings.broker_socket.parent) == {("d", "------"), ("s", "------")}
    for running in (odd, long):
        with Connection(_as_kombu_spells(running.url)) as connection:
            connection.ensure_connection(max_retries=1)
        running.process.stop()
    long.settings.broker_socket.parent.rmdir()


def test_a_folder_that_somebody_else_made_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(broker.BrokerError, match="belongs to another user"):
        broker.become(load_settings({"RUN_DIR": str(tmp_path)}))


def test_a_second_server_never_writes_the_files_of_one_that_hangs(start_broker: Callable[..., Broker]) -> None:
    first = start_broker().wait()
    first.process.send(signal.SIGSTOP)
    second = start_broker()
    assert second.process.wait(20) == 1
    assert "does not answer: end it first" in second.process.log()
    first.process.send(signal.SIGCONT)
    first.wait()


def test_a_redis_that_already_answers_is_only_watched(
    start_broker: Callable[..., Broker], own_redis: RedisServer
) -> None:
    process = start_broker(REDIS_URL=own_redis.url).process
    wait_until(lambda: "only watches it" in process.log(), what="the watcher's line")
    process.send(signal.SIGTERM)
    assert process.wait(10) == 0
    assert broker.answers(own_redis.url)


@pytest.mark.parametrize("url", ["redis://:secret@192.0.2.1:6379/0", "redis://:secret@127.0.0.1:1/0"])
def test_an_unreachable_redis_ends_with_one_line_and_no_password(start_broker: Callable[..., Broker], url: str) -> None:
    # 192.0.2.0/24 is reserved for documentation, and port 1 is nobody's: nothing answers there.
    process = start_broker(REDIS_URL=url).process
    assert process.wait(20) == 1
    (line,) = process.log().splitlines()
    assert "nothing answers at REDIS_URL" in line
    assert "secret" not in line


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


def test_an_old_program_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
    for folder, version in zip(folders, ("6.2.14", "7.0.15"), strict=True):
        folder.mkdir()
        program(folder, "redis-server", f"Redis server v={version}")
    new = str(folders[1] / "redis-server")
    assert broker.executable("redis-server") == new
    monkeypatch.setattr(broker, "bundled_executable", lambda: "")
    assert broker.executable() == new
    program(folders[1], "redis-server", "Valkey server v=7.1.0")
    with pytest.raises(broker.BrokerError, match=r"Valkey 7\.1\.0 is too old: run Redis 7\.0 or later"):
        broker.executable()


def test_a_program_that_was_asked_for_must_be_there_and_new_enough(tmp_path: Path) -> None:
    old = program(tmp_path, "redis-server", "Redis server v=6.2.14")
    with pytest.raises(broker.BrokerError, match=r"Redis 6\.2\.14 is too old: run Redis 7\.0 or later"):
        broker.executable(str(old))
    with pytest.raises(broker.BrokerError, match="REDIS_SERVER names no program"):
        broker.executable(str(tmp_path / "none"))
