"""Redis dies, restarts, hangs, fills up, drops connections: everybody heals alone and the books balance."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Self

import pytest
import redis

from tasks.errors import BrokerUnavailable, TaskError
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.redis_server import RedisServer
from tests.support.stack import EACH_STORE, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


class Load:
    """Submits without pause from one thread; knows what was accepted and how often it was refused."""

    def __init__(self, gateway: Gateway) -> None:
        self.accepted: list[str] = []
        self.refused = 0
        self._gateway = gateway
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def wait_for_more(self, number: int) -> None:
        enough = len(self.accepted) + number
        wait_until(lambda: len(self.accepted) >= enough)

    def wait_for_refusal(self) -> None:
        before = self.refused
        wait_until(lambda: self.refused > before)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            try:
                self.accepted.append(self._gateway.submit(Submission(image=b"sleep 0.01", model_type="toy")).id)
            except TaskError:
                self.refused += 1


def answers(send: Send, gateway: Gateway) -> bool:
    try:
        return gateway.wait(send(), 1).state is State.SUCCEEDED
    except TaskError:
        return False


@EACH_STORE
def test_redis_killed_and_restarted_under_load(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, own_redis: RedisServer
) -> None:
    """AOF everysec may lose the last second of accepted requests: what Redis kept must balance and end."""
    workers = [toy("toy-1"), toy("toy-2")]
    with Load(gateway) as load:
        for _ in range(2):
            load.wait_for_more(50)
            own_redis.kill()
            load.wait_for_refusal()
            own_redis.start()
            back = time.monotonic()
            wait_until(lambda: answers(send, gateway), 10)
            assert time.monotonic() - back <= 5.0
    kept = monitor.recent(limit=100_000)[0]
    requests = all_ended(gateway, [request.id for request in kept], 20)
    check_books(monitor, requests)
    check_answered_once(requests)
    assert all(worker.alive for worker in workers)


def test_an_outage_longer_than_every_lease_declares_nobody_dead(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, own_redis: RedisServer
) -> None:
    """Work that is running when Redis goes away is committed when it is back: once, by the worker that ran it."""
    toy("toy-1", "-c", "4")
    toy("toy-2", "-c", "4")
    ids = [send("sleep 2") for _ in range(4)]
    wait_until(lambda: monitor.ledger()["normal.toy"]["running"] == 4)
    own_redis.stop()
    time.sleep(6)  # three lease TTLs
    own_redis.start()
    back = time.monotonic()
    wait_until(lambda: answers(send, gateway), 10)
    assert time.monotonic() - back <= 5.0
    requests = all_ended(gateway, ids, 10)
    assert {(r.state, r.attempts) for r in requests} == {(State.SUCCEEDED, 1)}
    check_answered_once(requests)


def test_dropped_connections_are_not_noticed_by_anybody(
    toy: Toy, gateway: Gateway, monitor: Monitor, own_redis: RedisServer
) -> None:
    toy("toy-1")
    toy("toy-2")
    with redis.Redis.from_url(own_redis.url) as killer, Load(gateway) as load:
        for _ in range(10):
            load.wait_for_more(20)
            killer.client_kill_filter(_type="normal", skipme=True)
    requests = all_ended(gateway, load.accepted, 20)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    check_answered_once(requests)


def test_a_silent_redis_is_reported_within_a_second_and_loses_nothing(
    toy: Toy, send: Send, gateway: Gateway, own_redis: RedisServer
) -> None:
    toy("toy-1")
    ids = [send("sleep 0.5") for _ in range(3)]
    own_redis.process.send(signal.SIGSTOP)
    asked = time.monotonic()
    with pytest.raises(BrokerUnavailable) as outage:
        send()
    assert time.monotonic() - asked < 1.0
    assert outage.value.retryable
    time.sleep(5)
    own_redis.process.send(signal.SIGCONT)
    assert {request.state for request in all_ended(gateway, ids, 10)} == {State.SUCCEEDED}


def test_a_full_redis_refuses_new_requests_and_still_answers_old_ones(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, own_redis: RedisServer
) -> None:
    ids = [send("ok") for _ in range(20)]
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1_000_000)
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            send()
        toy("toy-1")
        requests = all_ended(gateway, ids, 15)
        assert {request.state for request in requests} == {State.SUCCEEDED}
        client.config_set("maxmemory", 0)
    wait_until(lambda: answers(send, gateway))


def test_work_that_ends_while_redis_is_away_is_committed_and_frees_its_place(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, own_redis: RedisServer
) -> None:
    """Stock Celery leaves such a task executed, unacknowledged and, with prefetch off, its slot taken for good."""
    toy("toy-1", "-c", "2")
    ids = [send("sleep 1") for _ in range(2)]
    wait_until(lambda: monitor.ledger()["normal.toy"]["running"] == 2)
    own_redis.stop()
    time.sleep(3)
    own_redis.start()
    assert {request.state for request in all_ended(gateway, ids, 10)} == {State.SUCCEEDED}
    more = all_ended(gateway, [send("sleep 0.1") for _ in range(6)], 15)
    assert {request.state for request in more} == {State.SUCCEEDED}
    wait_until(lambda: _held(own_redis.url) == 0)


def _held(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return sum(client.hlen(key) for key in client.scan_iter("*unacked:*"))


def test_a_worker_that_is_told_to_stop_while_redis_is_gone_ends_and_its_requests_run_after_the_restart(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, own_redis: RedisServer
) -> None:
    worker = toy("leaver")
    ids = [send("sleep 1"), send("sleep 1;ok")]
    wait_until(lambda: gateway.get(ids[0]).state is State.RUNNING)
    own_redis.kill()
    told = time.monotonic()
    worker.send(signal.SIGTERM)
    worker.wait(15)
    assert time.monotonic() - told < 12
    own_redis.start()
    toy("next")
    requests = all_ended(gateway, ids, 20)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    check_books(monitor, requests)


def test_workers_killed_while_redis_is_full_use_up_no_attempts_that_never_began(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, own_redis: RedisServer
) -> None:
    victim = toy("victim")
    ids = [send("sleep 1") for _ in range(8)]
    wait_until(lambda: gateway.get(ids[-1]).state is State.RUNNING)
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1)
        victim.kill()
        toy("other")
        requests = all_ended(gateway, ids, 30)
        client.config_set("maxmemory", 0)
    assert {(request.state, request.attempts) for request in requests} == {(State.SUCCEEDED, 2)}
    check_books(monitor, requests)
