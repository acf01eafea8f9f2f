"""One request at a time through a real worker: every way it can end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from tasks.control.dead_letters import DeadLetters
from tasks.control.orders import Controls
from tasks.errors import (
    DeadlineHopeless,
    HasEnded,
    IdReused,
    TooManyWaiters,
    UnknownRequest,
    UnsupportedModel,
)
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.keys import Keys
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_books
from tests.support.stack import EACH_STORE, Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


def test_a_request_is_answered_with_who_when_and_how_long(toy: Toy, send: Send, gateway: Gateway) -> None:
    worker = toy("toy-1")
    request = gateway.wait(send("ok", top_k=1), 10)
    assert request.state is State.SUCCEEDED
    assert request.predictions == [{"class": "ok", "index": 0, "confidence": 1.0}]
    assert (request.worker_id, request.model, request.weights) == (worker.node, "toy", "none")
    assert set(request.timings) == {"queue", "decode", "infer", "total"}
    assert [event["event"] for event in request.timeline] == ["accepted", "started", "succeeded"]


def test_invalid_input_fails_at_once_and_is_never_retried(toy: Toy, send: Send, gateway: Gateway) -> None:
    toy("toy-1")
    request = gateway.wait(send("bad"), 10)
    assert request.state is State.FAILED
    assert request.attempts == 1
    assert request.error == {"code": "unsupported_image", "message": "told to be bad", "retryable": False}


def test_a_transient_failure_is_retried_until_it_succeeds(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    toy("toy-1", RETRY_JITTER=0)
    request = gateway.wait(send(f"flaky {tmp_path / 'count'} 2"), 20)
    assert request.state is State.SUCCEEDED
    assert request.attempts == 3
    starts = [event["at"] for event in request.timeline if event["event"] == "started"]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert 1.0 <= gaps[0] < 2.0 <= gaps[1] < 4.0  # exponential: 1 s, then 2 s
    assert monitor.counters()["retried"] == 2


@EACH_STORE
def test_a_lasting_failure_becomes_a_dead_letter_that_a_person_can_run_again_or_delete(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    toy("toy-1", MAX_RETRIES=1)
    dead_letters = DeadLetters(stack.settings())
    request = gateway.wait(send("error"), 20)
    assert (request.state, request.attempts) == (State.FAILED, 2)
    assert [letter.id for letter in dead_letters.list()] == [request.id]
    dead_letters.requeue(request.id)
    again = gateway.wait(request.id, 20)
    assert (again.state, again.attempts) == (State.FAILED, 4)
    dead_letters.delete(request.id)
    assert dead_letters.list() == []
    with pytest.raises(UnknownRequest):
        dead_letters.requeue(request.id)
    check_books(monitor, [again])


def test_one_bad_image_in_a_batch_fails_alone(toy: Toy, gateway: Gateway, monitor: Monitor) -> None:
    toy("toy-1", MAX_RETRIES=0)
    texts = ["error" if i == 3 else "bad" if i == 8 else "ok" for i in range(20)]
    accepted = gateway.submit_many([Submission(image=t.encode(), model_type="toy") for t in texts])
    requests = all_ended(gateway, [a.id for a in accepted if isinstance(a, Accepted)], 10)
    assert [str(r.state) for r in requests] == ["failed" if t != "ok" else "succeeded" for t in texts]
    check_books(monitor, requests)


def test_a_canceled_queued_request_never_runs(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    request_id = send(f"ran {ran}")
    assert gateway.cancel(request_id).state is State.CANCELED
    assert gateway.cancel(request_id).state is State.CANCELED
    toy("toy-1")
    other = gateway.wait(send("ok"), 10)
    assert not ran.exists()
    check_books(monitor, [gateway.get(request_id), other])


def test_a_running_request_can_be_canceled_and_its_answer_is_discarded(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    toy("toy-1")
    request_id = send("sleep 1")
    wait_until(lambda: gateway.get(request_id).state is State.RUNNING)
    assert gateway.cancel(request_id).state is State.CANCELED
    wait_until(lambda: monitor.counters()["fenced"] == 1)
    assert gateway.get(request_id).predictions is None
    with pytest.raises(HasEnded):
        gateway.cancel(gateway.wait(send("ok"), 10).id)


def test_a_deadline_ends_a_request_without_any_worker(send: Send, gateway: Gateway, monitor: Monitor) -> None:
    request_id = send("ok", deadline=0.2)
    expired = wait_until(lambda: (r := gateway.get(request_id)).state.terminal and r)
    assert expired.state is State.EXPIRED
    check_books(monitor, [expired])


def test_a_worker_drops_what_is_past_its_deadline(toy: Toy, send: Send, gateway: Gateway, tmp_path: Path) -> None:
    toy("toy-1", "-c", "1")
    send("sleep 1")
    late = send(f"ran {tmp_path / 'ran'}", deadline=0.3)
    assert wait_until(lambda: (r := gateway.get(late)).state.terminal and r).state is State.EXPIRED
    gateway.wait(send("ok"), 10)
    assert not (tmp_path / "ran").exists()


def test_the_same_id_and_body_is_one_request_and_another_body_is_a_conflict(gateway: Gateway) -> None:
    def submission(body: str) -> Submission:
        return Submission(image=b"ok", model_type="resnet18", request_id="mine", fingerprint=body)

    assert not gateway.submit(submission("a")).replayed
    assert gateway.submit(submission("a")).replayed
    with pytest.raises(IdReused):
        gateway.submit(submission("b"))


def test_twenty_threads_with_the_same_id_are_accepted_once(gateway: Gateway, monitor: Monitor) -> None:
    answers: list[bool] = []

    def post() -> None:
        submission = Submission(image=b"ok", model_type="resnet18", request_id="twin", fingerprint="f")
        answers.append(gateway.submit(submission).replayed)

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] + [True] * 19
    assert monitor.ledger()["normal.resnet18"]["accepted"] == 1


def test_a_deadline_that_cannot_be_met_is_refused_at_once(toy: Toy, send: Send, gateway: Gateway) -> None:
    toy("toy-1", "-c", "1", MAX_BATCH=1)
    gateway.wait(send("sleep 0.5"), 10)
    for _ in range(10):
        send("sleep 0.5")
    time.sleep(0.6)  # the gateway's picture of the fleet is at most half a second old
    with pytest.raises(DeadlineHopeless) as refusal:
        send("ok", deadline=0.5)
    assert 0.5 < (refusal.value.retry_after or 0) < 10


def test_an_unknown_model_is_refused_with_the_known_ones(gateway: Gateway) -> None:
    with pytest.raises(UnsupportedModel, match="mobilenet"):
        gateway.submit(Submission(image=b"ok", model_type="nonsense"))


def test_more_waiters_than_places_are_told_so(stack: Stack) -> None:
    gateway = Gateway(stack.settings(MAX_WAITERS=1))
    request_id = gateway.submit(Submission(image=b"ok", model_type="resnet18")).id
    waiting = threading.Thread(target=gateway.wait, args=(request_id, 2))
    waiting.start()
    try:
        with pytest.raises(TooManyWaiters):
            wait_until(lambda: gateway.wait(request_id, 0) is None, 1)
    finally:
        waiting.join()
        gateway.close()


def test_the_end_of_a_request_that_nobody_waits_for_any_more_is_not_taken_for_anothers(
    toy: Toy, send: Send, gateway: Gateway
) -> None:
    toy("toy-1", MAX_BATCH=1)
    given_up = send("sleep 0.4")
    assert not gateway.wait(given_up, 0.05).state.terminal
    accepted, record = gateway.submit_and_wait(Submission(image=b"sleep 0.4", model_type="toy"), 10)
    assert record is not None
    assert (record.id, record.state) == (accepted.id, State.SUCCEEDED)
    # Two runs never overlap, but two ends are written by two threads.
    assert gateway.wait(given_up, 10).state is State.SUCCEEDED


def test_any_is_answered_by_whichever_worker_is_free(toy: Toy, send: Send, gateway: Gateway) -> None:
    nodes = {toy("toy-1", "-c", "1").node, toy("toy-2", "-c", "1").node}
    ids = [send("sleep 0.3", model_type="any") for _ in range(6)]
    requests = all_ended(gateway, ids, 10)
    assert {request.worker_id for request in requests} == nodes
    assert {request.lane for request in requests} == {"normal"}


def test_an_answer_that_cannot_be_written_down_is_the_requests_failure(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    toy("toy-1", MAX_RETRIES=0)
    request = gateway.wait(send("strange"), 10)
    assert request.state is State.FAILED
    assert request.error is not None
    assert request.error["code"] == "inference_failed"
    check_books(monitor, [request])


def test_a_delivery_that_cannot_be_performed_is_given_back_and_not_forgotten(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack
) -> None:
    """A damaged record makes its own task fail and none that is begun with it; mended, its request is answered."""
    others = [send("ok") for _ in range(3)]
    request_id = send("ok")
    record = Keys(stack.settings().key_prefix).request(request_id)
    with redis.Redis.from_url(stack.redis_url) as client:
        client.hset(record, "spec", "{")
        toy("toy-1")
        wait_until(lambda: monitor.counters()["given_back"] >= 1, 15)
        assert {request.attempts for request in all_ended(gateway, others, 10)} == {1}
        client.hset(record, "spec", '{"top_k": 1}')
    requests = all_ended(gateway, [request_id, *others], 15)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    check_books(monitor, requests)


def test_the_lanes_can_be_read_with_a_retry_at_their_head(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    toy("toy-1", RETRY_BACKOFF=2, RETRY_JITTER=0)
    request_id = send(f"flaky {tmp_path / 'count'} 1")
    wait_until(lambda: monitor.counters()["retried"] == 1)
    Controls(stack.settings()).pause("normal.toy", "test")
    send()
    lane = wait_until(lambda: next((row for row in monitor.lanes() if (row["oldest_age"] or 0) > 2), None))
    assert (lane["lane"], lane["depth"]) == ("normal.toy", 2)
    assert monitor.queue_position(gateway.get(request_id)) == 1
