"""Messages that a stock Celery worker runs, and what the last release left in Redis at an upgrade."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol import envelope
from tasks.protocol.keys import Keys
from tasks.protocol.requests import State
from tests.support.oracle import check_books
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

LANE = "normal.toy"
#: As the last release wrote it, but for the id.
FORMER = (
    '{"body":"[[[\\"ID\\"]],{},{\\"callbacks\\":null,\\"errbacks\\":null,\\"chain\\":null,\\"chord\\":null}]",'
    '"content-encoding":"utf-8","content-type":"application/json","headers":{"lang":"py","task":"inferlane.infer",'
    '"retries":0,"timelimit":[null,null],"origin":"gen31160@vm","ignore_result":true,"replaced_task_nesting":0,'
    '"id":"ID","root_id":"ID"},"properties":{"correlation_id":"ID","delivery_mode":2,"delivery_info":{"exchange":"",'
    '"routing_key":"normal.toy"},"priority":0,"body_encoding":"utf-8","delivery_tag":"ID"}}'
)


@pytest.fixture
def server(own_redis: RedisServer) -> Any:
    with redis.Redis.from_url(own_redis.url) as client:
        yield client


def test_a_stock_celery_worker_runs_a_message(own_redis: RedisServer, server: Any) -> None:
    stock, seen, held = Celery(broker=own_redis.url), [], threading.Event()

    @stock.task(name=envelope.TASK, bind=True)
    def infer(self: Any, ids: list[str]) -> None:
        seen.append((self.request.id, self.request.retries, ids))
        assert held.wait(20)

    server.lpush(LANE, envelope.seal(LANE, ["ann/one"]), envelope.seal(LANE, ["ann/two", "ann/three"], retries=2))
    with start_worker(stock, pool="threads", concurrency=1, queues=[LANE], perform_ping_check=False):
        wait_until(lambda: len(seen) == 1)
        (active,) = stock.control.inspect().active().values()
        assert [(row["id"], row["name"], row["args"]) for row in active] == [("ann/one", envelope.TASK, [["ann/one"]])]
        held.set()
        wait_until(lambda: len(seen) == 2)
    assert seen[0] == ("ann/one", 0, ["ann/one"])
    assert seen[1][1:] == (2, ["ann/two", "ann/three"])


def test_what_the_last_release_left_runs_here(
    toy: Callable[..., WorkerProcess], stack: Stack, gateway: Gateway, monitor: Monitor, server: Any
) -> None:
    """One request waits, another was taken and begun by a worker that died."""
    keys = Keys(stack.settings().key_prefix)
    for number, request_id in enumerate(("ann/waits", "ann/ran")):
        fields = {"state": "queued", "lane": LANE, "created": f"{time.time():.6f}", "spec": '{"top_k":5}', "attempt": 0}
        server.hset(keys.request(request_id), mapping=fields | {"fingerprint": "", "place": number + 1, "bytes": 2})
        server.set(keys.image(request_id), b"ok")
        for index in (keys.recent, keys.recent_of("ann")):
            server.zadd(index, {request_id: fields["created"]})
    boot = "old@host/0123abcd"
    started = '{"at":1795944201.830094,"event":"started","worker":"old@host/0123abcd","attempt":1}\n'
    running = {"state": "running", "owner": boot, "tag": "7", "attempt": 1, "started": f"{time.time():.6f}"}
    server.hset(keys.request("ann/ran"), mapping=running | {"timeline": started})
    server.hset(keys.ledger, mapping={f"{LANE}:accepted": 2, f"{LANE}:queued": 1, f"{LANE}:running": 1})
    server.incrby(keys.image_bytes, 4)
    server.sadd(keys.owners, "ann")
    server.lpush(keys.lane(LANE), FORMER.replace("ID", "ann/waits"))
    server.hset(keys.unacked(boot), "7", f"{LANE}\n" + FORMER.replace("ID", "ann/ran"))
    server.hset(keys.workers, boot, '{"model":"toy"}')
    server.hset(f"{keys.prefix}lease_ttls", boot, 1000)
    toy("toy-1", LEASE_TTL=1)
    waited, ran = gateway.wait("ann/waits", 20), gateway.wait("ann/ran", 20)
    assert (waited.state, waited.attempts) == (State.SUCCEEDED, 1)
    assert (ran.state, ran.attempts) == (State.SUCCEEDED, 2)
    assert [event["event"] for event in ran.timeline][1:4] == ["started", "worker_died", "rescued"]
    assert int(server.get(keys.image_bytes)) == 0
    check_books(monitor, [waited, ran])


def test_an_acceptance_sent_twice_keeps_the_image(stack: Stack, gateway: Gateway, server: Any) -> None:
    """The connection broke before the answer: redis-py sends the upload and the script once more."""
    keys, pinned = Keys(stack.settings().key_prefix), gateway.records.pinned
    submission, once = Submission(image=b"ok", model_type="toy"), pinned.replies
    gateway.submit(submission)  # Redis knows the script now

    def twice(commands: Any) -> Any:
        once(commands)
        return once(commands)

    pinned.replies = twice  # type: ignore[method-assign]
    accepted = gateway.submit(submission)
    assert accepted.replayed
    assert server.get(keys.image(accepted.id)) == b"ok"
    assert server.ttl(keys.image(accepted.id)) == -1
    assert list(server.scan_iter(keys.upload("*"))) == []


def test_a_request_whose_image_redis_has_lost_ends(
    toy: Callable[..., WorkerProcess], gateway: Gateway, send: Callable[..., str], monitor: Monitor, server: Any
) -> None:
    request_id = send()
    server.delete(gateway.records.keys.image(request_id))
    toy("toy-1")
    request = gateway.wait(request_id, 20)
    assert request.error is not None
    assert (request.state, request.error["code"], request.error["retryable"]) == (State.FAILED, "image_lost", False)
    check_books(monitor, [request])


def test_accepted_requests_and_their_owner_are_known_within_seconds(
    stack: Stack, monitor: Monitor, server: Any
) -> None:
    gateway = Gateway(stack.settings(MODELS="toy"))
    for _ in range(3):
        gateway.submit(Submission(image=b"ok", model_type="toy", owner="ann"))
    keys = gateway.records.keys
    assert server.smembers(keys.owners) == {b"ann"}
    wait_until(lambda: sum(row["accepted"] for row in monitor.history(2)) == 3)
    gateway.submit(Submission(image=b"ok", model_type="toy", owner="ann"))
    gateway.close()
    assert sum(row["accepted"] for row in monitor.history(2)) == 4, "the last ones are written when it closes"
