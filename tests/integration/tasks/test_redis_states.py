"""Redis answers and refuses: nothing is stored by half, nobody exits or spins, and everything heals alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from tasks.errors import BrokerUnavailable, Full, LaneFull, TaskError
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.keys import Keys
from tasks.protocol.requests import State
from tests.integration.api.conftest import image
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.stack import EACH_STORE, Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]
KEYS = Keys("inferlane:")
TOY = "tests.toy:toy"
RAW = {"Content-Type": "image/gif"}


@pytest.fixture
def server(own_redis: RedisServer) -> Iterator[Any]:
    """A client of the test's own Redis."""
    with redis.Redis.from_url(own_redis.url) as client:
        yield client


def keys_of(server: Any, kind: str) -> int:
    return len(list(server.scan_iter(f"*{kind}:*")))


def stored_images(payload_store: str) -> list[Path]:
    """The files of a folder of images."""
    return list(Path(payload_store.removeprefix("file://")).glob("*/*"))


# -- no memory


class Flapping:
    """A Redis that is just full and has room again, many times a second."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        full = False
        while not self._stop.wait(0.002):
            full = not full
            self._client.config_set("maxmemory", 1_000_000 if full else 0)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.config_set("maxmemory", 0)
        self._client.close()


@EACH_STORE
def test_acceptance_is_all_or_nothing_while_memory_comes_and_goes(
    stack: Stack, toy: Toy, monitor: Monitor, own_redis: RedisServer, server: Any, payload_store: str
) -> None:
    """An image that found no memory beside an acceptance that did left records without ledger entry or message."""
    gateway = Gateway(stack.settings(MODELS="toy", MAX_QUEUE_BYTES=10**9))
    accepted: list[str] = []
    refused = 0

    def batches(number: int) -> None:
        nonlocal refused
        for turn in range(60):
            ids = [f"b{number}-{turn}.{index}" for index in range(24)]
            items = [Submission(image=b"ok" * 500, model_type="toy", request_id=name) for name in ids]
            try:
                outcomes = gateway.submit_many(items)
            except Full:
                refused += 1
                continue
            for name, outcome in zip(ids, outcomes, strict=True):
                assert isinstance(outcome, Accepted | Full), outcome
                if isinstance(outcome, Accepted):
                    accepted.append(name)

    with Flapping(own_redis.url), ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(batches, number) for number in range(4)]:
            done.result()
    assert accepted
    assert refused
    stored = {key.decode().rpartition(":")[2] for key in server.scan_iter("*request:*")}
    assert stored == set(accepted)
    if payload_store == "redis":
        assert {key.decode().rpartition(":")[2] for key in server.scan_iter("*image:*")} == set(accepted)
    else:
        assert server.zcard(KEYS.payloads) == len(accepted) == len(stored_images(payload_store))
    assert keys_of(server, "upload") == 0
    toy("toy-1")
    requests = all_ended(gateway, accepted, 60)
    check_books(monitor, requests)
    check_answered_once(requests)
    assert int(server.get(gateway.records.keys.image_bytes)) == 0
    gateway.close()


@EACH_STORE
def test_a_replay_stores_nothing(gateway: Gateway, server: Any, payload_store: str) -> None:
    item = Submission(image=bytes(2_000_000), model_type="toy", request_id="mine", fingerprint="f")
    assert not gateway.submit(item).replayed
    before = server.info("memory")["used_memory"]
    for _ in range(20):
        assert gateway.submit(item).replayed
    small = Submission(image=b"small", model_type="toy", request_id="small", fingerprint="f")
    assert [gateway.submit(small).replayed for _ in range(3)] == [False, True, True]
    assert keys_of(server, "upload") == 0
    assert payload_store == "redis" or len(stored_images(payload_store)) == 2
    assert server.info("memory")["used_memory"] - before < 1_000_000


@EACH_STORE
def test_the_queue_is_bounded_in_bytes(stack: Stack, toy: Toy, server: Any, monitor: Monitor) -> None:
    gateway = Gateway(stack.settings(MODELS="toy", MAX_QUEUE_BYTES=10_000))
    items = [Submission(image=b"ok" + b" " * 3_998, model_type="toy") for _ in range(3)]
    first, second, third = gateway.submit_many(items)
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert isinstance(third, LaneFull)
    assert third.retry_after
    assert "MAX_QUEUE_BYTES" in str(third)
    assert int(server.get(gateway.records.keys.image_bytes)) == 8_000
    gateway.cancel(first.id)
    gateway.submit(items[2])
    toy("toy-1")
    wait_until(lambda: int(server.get(gateway.records.keys.image_bytes)) == 0)
    gateway.close()


def test_half_of_maxmemory_is_the_bound_where_none_is_set(stack: Stack, server: Any) -> None:
    server.config_set("maxmemory", 40_000_000)
    gateway = Gateway(stack.settings(MODELS="toy"))
    item = Submission(image=bytes(9_000_000), model_type="toy")
    gateway.submit(item)
    gateway.submit(item)
    with pytest.raises(LaneFull, match="MAX_QUEUE_BYTES"):
        gateway.submit(item)
    gateway.close()
    server.config_set("maxmemory", 0)


# -- no writes


def refuse_writes(server: Any, how: str) -> None:
    """Put the server into a state in which it answers and takes no writes."""
    if how == "a replica of nowhere":
        server.replicaof("127.0.0.1", 1)
    elif how == "no replica to write to":
        server.config_set("min-replicas-to-write", 1)
    elif how == "no permission":
        server.acl_setuser("default", enabled=True, commands=["-evalsha", "-eval", "-hset", "-set", "-lpush"])
        server.acl_setuser("default", enabled=True, keys=["nothing"], reset_keys=True, nopass=True)


def take_writes(server: Any, how: str) -> None:
    """Heal it."""
    if how == "a replica of nowhere":
        server.replicaof("NO", "ONE")
    elif how == "no replica to write to":
        server.config_set("min-replicas-to-write", 0)
    else:
        server.acl_setuser("default", enabled=True, commands=["+@all"], keys=["*"], nopass=True)


REFUSING = ["a replica of nowhere", "no replica to write to", "no permission"]


@pytest.mark.parametrize("how", REFUSING)
def test_a_redis_that_refuses_writes_is_a_503_and_workers_wait_quietly(
    stack: Stack, toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, server: Any, how: str
) -> None:
    workers = [toy("toy-1"), toy("toy-2")]
    api = stack.start_api(MODELS="toy")
    assert gateway.wait(send(), 10).state is State.SUCCEEDED
    refuse_writes(server, how)
    spent = [process_seconds(worker.pid) for worker in workers]
    began = time.monotonic()
    while time.monotonic() - began < 6:
        with pytest.raises(BrokerUnavailable):
            send()
        answer = api.client.post("/inference", content=image(), headers=RAW, params={"model_type": "toy"})
        assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
        assert answer.headers["Retry-After"]
        time.sleep(0.2)
    assert all(worker.alive for worker in workers)
    shares = [(process_seconds(worker.pid) - before) / 6 for worker, before in zip(workers, spent, strict=True)]
    assert max(shares) < 0.3, shares  # of a core; it was 0.64 to 0.86
    take_writes(server, how)
    healed = time.monotonic()
    wait_until(lambda: answers(send, gateway), 15)
    assert time.monotonic() - healed <= 8.0
    assert all(worker.alive for worker in workers)


def process_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def answers(send: Send, gateway: Gateway) -> bool:
    try:
        return gateway.wait(send(), 1).state is State.SUCCEEDED
    except TaskError:
        return False


# -- a managed failover: one address, the primary is demoted and stays up


@pytest.fixture
def pair(tmp_path: Path, own_redis: RedisServer) -> Iterator[RedisServer]:
    """A replica of the test's own Redis, in step with it."""
    replica = RedisServer(tmp_path / "replica", options=["--replicaof", "127.0.0.1", str(own_redis.port)])
    with redis.Redis.from_url(replica.url) as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
    yield replica
    replica.stop()


def test_a_primary_that_is_demoted_and_stays_up_is_left_within_seconds(
    stack: Stack, own_redis: RedisServer, pair: RedisServer
) -> None:
    with Proxy(own_redis.port) as address:
        own = {"REDIS_URL": address.url, "MODELS": "toy"}
        workers = [stack.start_worker(TOY, name="toy-1", ready=False, **own)]
        api = stack.start_api(**own)
        wait_until(lambda: status(api.client) == 200, 30)
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(ask, api.url, image("sleep 0.5")) for _ in range(3)]
            time.sleep(0.3)
            with redis.Redis.from_url(pair.url) as new, redis.Redis.from_url(own_redis.url) as old:
                new.replicaof("NO", "ONE")
                address.lead_to(pair.port)
                old.replicaof("127.0.0.1", pair.port)
            promoted = time.monotonic()
            wait_until(lambda: status(api.client) == 200, 15)
            assert time.monotonic() - promoted <= 5.0
            found = {job.result().status_code for job in waiting}
        assert found <= {200, 202, 503}, found  # callers who waited got 500
        assert all(worker.alive for worker in workers)
        monitor = Monitor(stack.settings(REDIS_URL=pair.url))
        wait_until(lambda: sum(row["queued"] + row["running"] for row in monitor.ledger().values()) == 0, 20)


def ask(url: str, body: bytes) -> httpx.Response:
    return httpx.post(f"{url}/inference?model_type=toy", content=body, headers=RAW, timeout=30)


def status(client: httpx.Client) -> int:
    return client.post("/inference", params={"model_type": "toy"}, content=image(), headers=RAW).status_code


# -- how long records stay


@pytest.mark.parametrize(("text", "state"), [("ok", "succeeded"), ("bad", "failed"), ("", "canceled"), ("", "expired")])
def test_the_state_says_how_long_a_record_stays(
    stack: Stack, toy: Toy, gateway: Gateway, server: Any, text: str, state: str
) -> None:
    settings = stack.settings()
    if state == "expired":
        name = gateway.submit(Submission(image=b"ok", model_type="toy", deadline=0.01)).id
        time.sleep(0.1)
    else:
        name = gateway.submit(Submission(image=text.encode(), model_type="toy")).id
    if state == "canceled":
        gateway.cancel(name)
    toy("toy-1")
    wait_until(lambda: gateway.get(name).state.terminal)
    record = gateway.get(name)
    kept = settings.failure_ttl if state == "failed" else settings.result_ttl
    assert record.state == state
    assert record.expires_at == pytest.approx((record.completed_at or 0) + kept, abs=1)
    assert server.ttl(gateway.records.keys.request(name)) == pytest.approx(kept, abs=60)
