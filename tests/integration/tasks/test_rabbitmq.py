"""RabbitMQ carries the messages: what the Redis broker is tested for, on a real node, and what only RabbitMQ does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tasks.controls import Controls
from tasks.dead_letters import DeadLetters
from tasks.deliveries import Deliveries
from tasks.keys import Keys
from tasks.monitor import Monitor
from tasks.requests import State
from tasks.submit import Gateway, Submission
from tests.integration.tasks import test_fairness, test_orders, test_rescue
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.processes import Process
from tests.support.rabbitmq_server import RabbitmqServer, needs_rabbitmq
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, needs_rabbitmq]

MODELS = ("toy", "mobilenet", "resnet18")
Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


@pytest.fixture
def stack(rabbitmq: RabbitmqServer, module_redis: RedisServer, tmp_path: Path) -> Iterator[Stack]:
    """An empty stack whose messages RabbitMQ carries; the other fixtures of this folder build on it."""
    environ = {"KEY_PREFIX": f"{uuid4().hex}:", "MODELS": ",".join(MODELS), "AMQP_URL": rabbitmq.url}
    with Stack(module_redis.url, tmp_path / "run", **environ) as started:
        yield started
    rabbitmq.forget(MODELS)


# The same tests, word for word, on the other broker.
test_low_progresses_while_high_is_saturated = test_fairness.test_low_progresses_while_high_is_saturated
test_a_paused_lane_accepts_and_waits = test_fairness.test_a_paused_lane_accepts_and_waits
test_a_frozen_worker_that_wakes_up_changes_nothing = test_rescue.test_a_frozen_worker_that_wakes_up_changes_nothing
test_sigterm_finishes_what_runs_and_gives_back_the_rest = (
    test_rescue.test_sigterm_finishes_what_runs_and_gives_back_the_rest
)
test_a_request_that_ends_its_process_becomes_a_dead_letter_and_its_companions_succeed = (
    test_rescue.test_a_request_that_ends_its_process_becomes_a_dead_letter_and_its_companions_succeed
)
test_a_retry_waiting_in_a_dead_workers_memory_is_not_forgotten = (
    test_rescue.test_a_retry_waiting_in_a_dead_workers_memory_is_not_forgotten
)

controls = test_orders.controls
test_a_purge_cancels_what_waits_and_the_books_balance = (
    test_orders.test_a_purge_cancels_what_waits_and_the_books_balance
)
test_what_a_worker_has_in_hand_survives_a_purge = test_orders.test_what_a_worker_has_in_hand_survives_a_purge


def test_priorities_share_a_busy_worker_six_to_three_to_one(
    toy: Toy, gateway: Gateway, monitor: Monitor, stack: Stack
) -> None:
    """All three lanes are full before the first is taken; then the order of starts says who was served."""
    controls = Controls(stack.settings())
    for priority in ("high", "normal", "low"):
        controls.pause(f"{priority}.toy", "test")
    toy("toy-1", "-c", "1", MAX_BATCH=1)
    items = [
        Submission(image=b"ok", model_type="toy", priority=p) for p in ("low", "normal", "high") for _ in range(40)
    ]
    ids = [gateway.submit(item).id for item in items]
    for priority in ("low", "normal", "high"):
        controls.resume(f"{priority}.toy")
    requests = all_ended(gateway, ids, 60)
    first = sorted(requests, key=lambda r: r.started_at or 0)[3:53]  # the lanes were resumed one after the other
    share = {p: sum(r.priority == p for r in first) for p in ("high", "normal", "low")}
    assert abs(share["high"] - 30) <= 2, share
    assert abs(share["normal"] - 15) <= 2, share
    assert abs(share["low"] - 5) <= 2, share
    check_books(monitor, requests)


def test_an_accepted_request_is_published_though_its_producer_dies_before_that(
    toy: Toy, gateway: Gateway, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process leaves that is killed between accepting and publishing: a letter in the outbox."""
    toy("toy-1")
    monkeypatch.setattr(gateway._carrier, "carry", lambda _lane, _message: None)
    request = gateway.wait(gateway.submit(Submission(image=b"ok", model_type="toy")).id, 10)
    assert request.state is State.SUCCEEDED
    assert 1.5 <= request.timings["queue"] <= 4.0  # two seconds are its producer's
    check_books(monitor, [request])


def test_a_message_that_comes_twice_runs_once(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack, rabbitmq: RabbitmqServer, tmp_path: Path
) -> None:
    """One copy while the other runs, one when all is over."""
    toy("toy-1")
    toy("toy-2")
    ran = tmp_path / "ran"
    request_id = send(f"ran {ran};sleep 1")
    wait_until(ran.exists)
    copy(stack, rabbitmq, "normal.toy", request_id)
    request = gateway.wait(request_id, 10)
    copy(stack, rabbitmq, "normal.toy", request_id)
    wait_until(lambda: rabbitmq.depth("normal.toy") == 0, what="the late copy is taken")
    assert (request.state, request.attempts) == (State.SUCCEEDED, 1)
    assert len(ran.read_text().splitlines()) == 1
    check_answered_once([gateway.get(request_id)])
    check_books(monitor, [request])


def copy(stack: Stack, rabbitmq: RabbitmqServer, lane: str, request_id: str) -> None:
    """Publish what the API published."""
    from tasks import envelope
    from tasks.brokers.letters import Letter
    from tasks.brokers.link import Link
    from tasks.celery import app

    link = Link(rabbitmq.url, heartbeat=0)
    assert link.publish([Letter(request_id, lane, envelope.seal(app, lane, [request_id]))])
    link.close()


def test_what_rabbitmq_gives_up_becomes_a_dead_letter_and_can_be_requeued(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack, rabbitmq: RabbitmqServer
) -> None:
    """Refused more often than the delivery limit: RabbitMQ takes it out of the lane, and our books know."""
    request_id = send()
    refuse_until_gone(rabbitmq, "normal.toy")
    toy("toy-1")
    wait_until(lambda: gateway.get(request_id).state is State.FAILED, 15, what="the dead letter")
    request = gateway.get(request_id)
    assert request.error is not None
    assert request.error["code"] == "undeliverable"
    check_books(monitor, [request])
    letters = DeadLetters(stack.settings(MODELS="toy"))
    assert [letter.id for letter in letters.list()] == [request_id]
    letters.requeue(request_id)
    assert gateway.wait(request_id, 10).state is State.SUCCEEDED


def refuse_until_gone(rabbitmq: RabbitmqServer, queue: str) -> None:
    """Take the one message of a queue and put it back, until RabbitMQ has had enough."""
    wait_until(lambda: rabbitmq.depth(queue) == 1, what="the message is there")
    with rabbitmq.connect() as connection, connection.channel() as channel:

        def refuse() -> bool:
            if (message := channel.basic_get(queue)) is not None:
                channel.basic_reject(message.delivery_tag, True)
            return rabbitmq.depth("undeliverable") == 1

        wait_until(refuse, 20, what="RabbitMQ gives it up")


def test_cancel_and_deadline_end_what_waits_in_rabbitmq(
    send: Send, gateway: Gateway, monitor: Monitor, toy: Toy
) -> None:
    canceled, late = send(), send(deadline=1.0)
    gateway.cancel(canceled)
    toy("toy-1")
    requests = all_ended(gateway, [canceled, late, send()], 10)
    assert [r.state for r in requests][:2] in ([State.CANCELED, State.EXPIRED], [State.CANCELED, State.SUCCEEDED])
    check_books(monitor, requests)


def test_a_purge_takes_what_was_given_back_and_spares_a_retry_that_waits_for_its_time(
    controls: Controls, toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack, tmp_path: Path
) -> None:
    victim = toy("victim", "--concurrency", "1", RETRY_BACKOFF=60, RETRY_BACKOFF_MAX=60, RETRY_JITTER=0)
    retried = send(f"flaky {tmp_path / 'tries'} 1")
    wait_until(lambda: gateway.get(retried).timeline[-1]["event"] == "retry", 10, what="it failed once")
    held = send("sleep 60")
    wait_until(lambda: gateway.get(held).state is State.RUNNING, 10, what="the victim has it")
    boot = monitor.workers()[0]["boot"]
    victim.kill()
    wait_until(lambda: monitor.workers() == [], 10, what="its lease has run out")
    Deliveries(gateway.records.client, stack.settings()).rescue(boot)
    assert gateway.get(held).state is State.QUEUED
    waiting = send()
    assert controls.purge("normal.toy", "ann") == 2
    assert [gateway.get(i).state for i in (held, waiting)] == [State.CANCELED] * 2
    assert gateway.get(held).timeline[-1]["purged_by"] == "ann"
    assert gateway.get(retried).state is State.QUEUED
    gateway.cancel(retried)
    check_books(monitor, [gateway.get(i) for i in (retried, held, waiting)])


def test_a_lane_tells_its_depth_and_its_oldest(send: Send, monitor: Monitor, gateway: Gateway) -> None:
    ids = [send() for _ in range(3)]
    row = next(row for row in monitor.lanes() if row["lane"] == "normal.toy")
    assert row["depth"] == 3
    assert 0 <= row["oldest_age"] < 10
    assert [monitor.queue_position(gateway.get(i)) for i in ids] == [1, 2, 3]


def test_nothing_is_left_behind_in_redis(toy: Toy, gateway: Gateway, stack: Stack, monitor: Monitor) -> None:
    """Whatever indexes a message's way is gone with it."""
    worker = toy("toy-1")
    requests = all_ended(gateway, [gateway.submit(Submission(image=b"ok", model_type="toy")).id for _ in range(50)], 20)
    check_books(monitor, requests)
    keys = Keys(stack.settings().key_prefix)
    client = gateway.records.client
    wait_until(lambda: not client.exists(keys.outbox, keys.letters, keys.carried, keys.waiting("normal.toy")), 10)
    assert worker.stop() == 0
    assert client.keys(f"{keys.prefix}unacked:*") == []


def test_many_producers_and_workers_balance(toy: Toy, gateway: Gateway, monitor: Monitor) -> None:
    """Batches and single requests from several threads; the sums are right and nothing is doubled."""
    toy("toy-1", "-c", "8")
    toy("toy-2", "-c", "8")
    ids: list[str] = []

    def produce(number: int) -> None:
        items = [Submission(image=b"ok", model_type=("toy", "any")[i % 2], batch_id=f"b{number}") for i in range(40)]
        ids.extend(answer.id for answer in gateway.submit_many(items) if not isinstance(answer, Exception))
        ids.extend(gateway.submit(Submission(image=b"ok", model_type="toy", priority="high")).id for _ in range(20))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 240
    requests = all_ended(gateway, ids, 60)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    check_answered_once(requests)
    check_books(monitor, requests)


def test_flower_and_celery_control_reach_the_workers(
    toy: Toy, stack: Stack, monitor: Monitor, free_port: int, tmp_path: Path
) -> None:
    """Orders and events take RabbitMQ's own exchanges, past the puller."""
    worker = toy("toy-1", CHAOS_ENABLED=1)
    assert test_rescue.celery(stack, "control", "-d", worker.node, "chaos", "slow", "0.1").returncode == 0
    wait_until(lambda: [row["chaos"] for row in monitor.workers()] == ["slow"], what="the order is obeyed")
    flower = Process(
        [sys.executable, "-m", "scripts.flower"],
        name="flower", folder=tmp_path, environ=stack.environ(FLOWER_PORT=free_port, FLOWER_BASIC_AUTH="ann:sesame"),
    )  # fmt: skip
    try:
        wait_until(lambda: shows(flower, f"http://127.0.0.1:{free_port}/workers", worker.node), 40, what="Flower")
    finally:
        flower.stop()


def shows(flower: Process, page: str, text: str) -> bool:
    """Whether a page has the text, once it answers."""
    flower.check_alive()
    try:
        return text in httpx.get(page, timeout=10, auth=("ann", "sesame")).text
    except httpx.TransportError:
        return False
