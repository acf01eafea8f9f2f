"""Images outside Redis: stored before the promise, deleted after the end, and never another's."""

from __future__ import annotations

import math
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks.control.dead_letters import DeadLetters
from tasks.control.orders import Controls
from tasks.errors import BrokerUnavailable, Full, TaskError
from tasks.inspect import health
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol import payloads, stores
from tasks.protocol.keys import Keys
from tasks.protocol.payloads import PayloadLost, Payloads
from tasks.protocol.requests import State
from tests.integration.api.conftest import image
from tests.support.oracle import all_ended, check_books
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]
KEYS = Keys("inferlane:")
RAW = {"Content-Type": "image/gif"}
IN_A_FOLDER = pytest.mark.parametrize("payload_store", ["file"], indirect=True)
#: ``local`` is the same disk by way of fsspec, as processes can share it.
OUTSIDE = pytest.mark.parametrize("payload_store", ["file", "local"], indirect=True)


@pytest.fixture
def server(own_redis: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(own_redis.url) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> Callable[[], list[Path]]:
    """The stored images now."""
    return lambda: sorted((tmp_path / "payloads").glob("*/*"))


Files = Callable[[], list[Path]]


@OUTSIDE
def test_every_end_deletes_the_image_and_a_dead_letter_keeps_it(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor, server: Any, files: Files
) -> None:
    canceled, expired, purged = send(), send(deadline=0.3), send(model_type="resnet18")
    ok, bad, error = send("ok"), send("bad"), send("error")
    assert sorted(map(Path.read_bytes, files())) == sorted([b"ok"] * 4 + [b"bad", b"error"])
    assert not list(server.scan_iter("*image:*"))
    assert gateway.records.image(ok) == b"ok"
    gateway.cancel(canceled)
    assert gateway.records.image(canceled) is None, "at once, whatever is on the disk"
    controls = Controls(stack.settings())
    controls.purge("normal.resnet18", "test")
    toy("toy-1", MAX_RETRIES=0)
    requests = all_ended(gateway, [canceled, expired, purged, ok, bad, error], 20)
    assert [r.state for r in requests] == ["canceled", "expired", "canceled", "succeeded", "failed", "failed"]
    wait_until(lambda: len(files()) == 1, 10, what="all but the dead letter's go")
    letters = DeadLetters(stack.settings())
    assert gateway.records.image(error) == b"error"
    ends = gateway.get(error).expires_at
    assert ends is not None
    assert [score for _, score in server.zrange(KEYS.payloads, 0, -1, withscores=True)] == [pytest.approx(ends + 60)]
    controls.pause("normal.toy", "test")
    letters.requeue(error)
    assert server.zrange(KEYS.payloads, 0, -1, withscores=True)[0][1] == math.inf, "it is open again"
    controls.resume("normal.toy")
    assert gateway.wait(error, 20).attempts == 2
    assert len(files()) == 1
    letters.delete(error)
    assert gateway.records.image(error) is None
    wait_until(lambda: not files(), 10, what="the deleted dead letter's image goes")
    wait_until(lambda: server.zcard(KEYS.payloads) == 0)
    assert int(server.get(KEYS.image_bytes)) == 0
    check_books(monitor, gateway.records.get_many([request.id for request in requests]))


@IN_A_FOLDER
def test_only_its_user_reads_the_folder_and_no_name_says_whose_image_it_is(send: Send, files: Files) -> None:
    send(request_id="a-very-private-id")
    (path,) = files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}
    assert stores.REFERENCE.fullmatch(f"{path.parent.name}/{path.name}")


@IN_A_FOLDER
def test_a_queued_photo_takes_two_kilobytes_of_redis(stack: Stack, server: Any) -> None:
    """So a hundred thousand take less than 256 MB; ``python -m bench`` fills a queue of that length."""
    gateway = Gateway(stack.settings(MODELS="toy"))
    names = [gateway.submit(Submission(image=os.urandom(112_000), model_type="toy", deadline=60)).id for _ in range(50)]
    shared = server.zcard(KEYS.payloads), server.zcard(KEYS.recent), server.llen(KEYS.lane("normal.toy"))
    assert shared == (50, 50, 50)
    of_one = [sum(server.memory_usage(key) for key in server.scan_iter(f"*{name}*")) for name in names]
    of_all = sum(server.memory_usage(key, samples=0) for key in server.scan_iter() if b"request:" not in key)
    assert max(of_one) + of_all / 50 < 2048, (max(of_one), of_all / 50)
    gateway.close()


@IN_A_FOLDER
def test_an_image_that_is_gone_or_cut_off_ends_its_request_as_lost(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, files: Files
) -> None:
    gone, cut = send("ok ok ok"), send("ok ok ok ok")
    first, second = sorted(files(), key=lambda path: path.stat().st_size)
    first.unlink()
    os.truncate(second, 3)  # after a crash of the machine, say
    toy("toy-1")
    requests = all_ended(gateway, [gone, cut], 10)
    errors = [request.error for request in requests]
    assert [(error["code"], error["retryable"]) for error in errors if error] == [("image_lost", False)] * 2
    assert {request.attempts for request in requests} == {1}
    check_books(monitor, requests)


@IN_A_FOLDER
def test_a_worker_with_another_folder_loses_no_image_and_health_says_so(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    request_id = send()
    stranger = toy("stranger", PAYLOAD_STORE=f"file://{tmp_path / 'elsewhere'}", MAX_RETRIES=0)
    failed = gateway.wait(request_id, 20)
    assert failed.error is not None
    assert failed.error["code"] == "image_unreadable"
    assert "PAYLOAD_STORE" in failed.error["message"]
    seen = health.Readings(workers=monitor.workers(), lanes=[])
    assert "payload_store" in {finding.code for finding in health.judge(seen, stack.settings())}
    stranger.stop()
    in_redis = toy("in-redis", PAYLOAD_STORE="redis", MAX_RETRIES=0)
    letters = DeadLetters(stack.settings())
    letters.requeue(request_id)
    error = wait_until(lambda: (r := gateway.get(request_id)).state is State.FAILED and r.error)
    assert "PAYLOAD_STORE is redis here" in error["message"]
    in_redis.stop()
    toy("toy-1")
    letters.requeue(request_id)
    wait_until(lambda: gateway.get(request_id).state is State.SUCCEEDED)


def test_images_in_redis_are_read_by_workers_that_store_elsewhere(toy: Toy, send: Send, gateway: Gateway) -> None:
    request_id = send()
    toy("toy-1", PAYLOAD_STORE="memory://images")
    assert gateway.wait(request_id, 20).state is State.SUCCEEDED


@IN_A_FOLDER
def test_a_full_disk_refuses_and_stores_nothing(stack: Stack, tmp_path: Path, files: Files, server: Any) -> None:
    disk = tmp_path / "payloads"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk needs root")
    api = stack.start_api(MODELS="toy")
    gateway = Gateway(stack.settings(MODELS="toy"))
    try:
        (kept,) = gateway.submit_many([Submission(image=bytes(400_000), model_type="toy")])
        assert isinstance(kept, Accepted)
        with pytest.raises(Full, match="payload store"):
            gateway.submit_many([Submission(image=bytes(400_000), model_type="toy") for _ in range(2)])
        assert len(files()) == 1
        assert server.hget(KEYS.ledger, "normal.toy:accepted") == b"1"
        (files()[0].parent / "filler").write_bytes(bytes(600_000))
        assert "full" in gateway.refusal()
        assert api.client.get("/health").status_code == 503
        assert api.client.post("/inference", content=image(), headers=RAW).status_code == 503
        (files()[-1]).unlink()
    finally:
        gateway.close()
        api.stop()
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_folder_that_cannot_be_written_is_a_503(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gateway = Gateway(stack.settings(MODELS="toy", PAYLOAD_STORE=f"file://{tmp_path / 'file' / 'payloads'}"))
    with pytest.raises(BrokerUnavailable, match="takes no image") as refused:
        gateway.submit(Submission(image=b"ok", model_type="toy"))
    assert str(tmp_path) not in str(refused.value)
    assert "PAYLOAD_STORE" in gateway.refusal()
    gateway.close()
    api = stack.start_api(MODELS="toy", PAYLOAD_STORE=f"file://{tmp_path / 'file' / 'payloads'}")
    body = api.client.get("/health")
    assert (body.status_code, body.json()["status"]) == (503, "unhealthy")
    assert "PAYLOAD_STORE" in str(body.json()["findings"])
    assert api.client.get("/readyz").status_code == 200, "answers can still be read"


@OUTSIDE
def test_the_sweep_deletes_old_orphans_of_this_system_alone(
    stack: Stack, gateway: Gateway, send: Send, server: Any, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "SECOND_LOOK", 0)
    settings = stack.settings()
    mine, theirs = Payloads(server, settings), Payloads(server, stack.settings(KEY_PREFIX="other:"))
    accepted = send()
    orphan, young, foreign = mine.put(b"orphan"), mine.put(b"young"), theirs.put(b"foreign")
    for path in files():
        if path.read_bytes() != b"young":
            os.utime(path, (time.time() - 2 * payloads.ORPHAN_AGE,) * 2)
    assert mine.sweep() == 1
    with pytest.raises(PayloadLost):
        mine.get(orphan)
    assert (mine.get(young), theirs.get(foreign), gateway.records.image(accepted)) == (b"young", b"foreign", b"ok")


def test_a_producer_that_dies_before_the_acceptance_leaves_what_the_sweep_deletes(
    stack: Stack, server: Any, toy: Toy, files: Files, tmp_path: Path
) -> None:
    store = f"file://{tmp_path / 'payloads'}"
    Payloads(server, stack.settings(PAYLOAD_STORE=store)).put(b"orphan")
    os.utime(files()[0], (0, 0))
    toy("toy-1", PAYLOAD_STORE=store)
    wait_until(lambda: not files(), 15, what="a worker sweeps")


@pytest.mark.parametrize(("appendfsync", "synced"), [("always", [b"1", b"2"]), ("everysec", [b"2"]), ("no", [])])
def test_images_reach_the_disk_when_redis_own_file_does(
    stack: Stack, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, appendfsync: str, synced: list[bytes]
) -> None:
    """Every second: the first is deleted before it is its turn."""
    server.config_set("appendfsync", appendfsync)
    found: list[bytes] = []

    def spy(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        found.extend([path.read_bytes()] if path.is_file() else [])

    monkeypatch.setattr(os, "fsync", spy)
    mine = Payloads(server, stack.settings(PAYLOAD_STORE=f"file://{tmp_path / 'payloads'}"))
    first = mine.put(b"1")
    mine.delete([first])
    mine.put(b"2")
    if appendfsync != "always":
        time.sleep(2.5)
    assert found == synced


@OUTSIDE
def test_nothing_but_a_reference_is_read(stack: Stack, server: Any, tmp_path: Path) -> None:
    (tmp_path / "secret-5").write_text("other")
    for reference in ("../secret-5", f"{'0' * 16}/../../secret-5", "/etc/hostname"):
        with pytest.raises(payloads.PayloadUnreadable):
            Payloads(server, stack.settings()).get(reference)


def test_a_store_whose_package_is_missing_is_one_line(stack: Stack) -> None:
    worker = stack.start_worker("tests.toy:toy", PAYLOAD_STORE="gs://bucket/prefix", ready=False)
    assert worker.wait(30) == 1
    assert "PAYLOAD_STORE: gs://bucket/prefix needs a package that is not installed" in worker.log()
    assert "Traceback" not in worker.log()


def test_an_unknown_outcome_keeps_the_image_until_it_is_known(
    stack: Stack, own_redis: RedisServer, server: Any, tmp_path: Path, files: Files
) -> None:
    """Redis may have accepted what it could not confirm, so only the sweep may delete it."""
    gateway = Gateway(stack.settings(MODELS="toy", PAYLOAD_STORE=f"file://{tmp_path / 'payloads'}"))
    gateway.submit(Submission(image=b"ok", model_type="toy"))
    own_redis.kill()
    with pytest.raises(TaskError, match="unknown"):
        gateway.submit(Submission(image=b"perhaps", model_type="toy"))
    assert {path.read_bytes() for path in files()} == {b"ok", b"perhaps"}
    gateway.close()
