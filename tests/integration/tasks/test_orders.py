"""What an operator may order, and what becomes of workers: with real workers and a ledger that has to balance."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.control.orders import CHUNK, Controls
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]
LANE = "normal.toy"


@pytest.fixture
def controls(stack: Stack) -> Controls:
    return Controls(stack.settings())


def events(gateway: Gateway, request_id: str) -> list[str]:
    return [event["event"] for event in gateway.get(request_id).timeline]


def test_a_purge_cancels_what_waits_and_the_books_balance(
    controls: Controls, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    ids = [send() for _ in range(CHUNK + 5)]
    batch = [Submission(image=b"ok", model_type="toy", request_id=f"b.{n}", batch_id="b") for n in range(20)]
    gateway.submit_many(batch)
    other = send("ok", priority="low")
    gateway.cancel(ids[0])
    assert controls.purge(LANE, "ann") == len(ids) - 1 + len(batch)
    purged = gateway.records.get_many([*ids, *[str(item.request_id) for item in batch]])
    assert {request.state for request in purged} == {State.CANCELED}
    assert purged[-1].timeline[-1]["purged_by"] == "ann"
    assert gateway.get(other).state is State.QUEUED
    row = next(row for row in monitor.lanes() if row["lane"] == LANE)
    assert (row["depth"], row["oldest_age"]) == (0, None)
    gateway.cancel(other)
    check_books(monitor, [*purged, gateway.get(other)])
    check_answered_once(purged)
    assert controls.purge(LANE, "ann") == 0


def test_what_a_worker_has_in_hand_survives_a_purge(
    controls: Controls, toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    toy("toy-1", "--concurrency", "1")
    running = send("sleep 1")
    wait_until(lambda: gateway.get(running).state is State.RUNNING, what="the worker has it")
    waiting = [send() for _ in range(5)]
    controls.purge(LANE, "ann")
    ended = all_ended(gateway, [running, *waiting], 20)
    assert ended[0].state is State.SUCCEEDED
    check_books(monitor, ended)


def test_a_restarted_worker_finishes_and_ends_and_its_successor_does_not_obey_again(
    controls: Controls, toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    first = toy("toy-1")
    running = send("sleep 1")
    wait_until(lambda: gateway.get(running).state is State.RUNNING, what="the worker has it")
    controls.restart(first.node, monitor.workers()[0]["boot"])
    assert first.wait(30) == 0
    assert gateway.get(running).state is State.SUCCEEDED
    toy("toy-1")
    assert gateway.wait(send(), 20).state is State.SUCCEEDED
    told = [(event["event"], event["worker"]) for event in monitor.fleet_events()]
    assert told == [("joined", first.node), ("left", first.node), ("joined", first.node)]


def test_a_killed_worker_is_lost_with_what_it_had_and_the_timeline_tells_it_all(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    victim = toy("victim")
    ids = [send("sleep 2"), send("sleep 2")]
    wait_until(lambda: {gateway.get(i).state for i in ids} == {State.RUNNING}, what="the victim has both")
    victim.kill()  # with its guardian, who would bury it at once
    wait_until(lambda: [worker["id"] for worker in monitor.silent()] == [victim.node], what="it falls silent")
    rescuer = toy("rescuer")
    all_ended(gateway, ids, 30)
    lost = wait_until(
        lambda: next((e for e in monitor.fleet_events() if e["event"] == "lost"), None), what="its obituary"
    )
    assert (lost["worker"], lost["held"], lost["model"]) == (victim.node, 2, "toy")
    assert monitor.silent() == []
    assert events(gateway, ids[0]) == ["accepted", "started", "worker_died", "rescued", "started", "succeeded"]
    assert gateway.get(ids[0]).workers == [victim.node, rescuer.node]
    assert monitor.counters()["workers_lost"] == 1

    def counted() -> int:
        return sum(size_of * number for size_of, number in monitor.batch_sizes().get(LANE, {}).items())

    wait_until(lambda: counted() >= 2, what="statistics are flushed")


def test_latencies_name_the_model_that_answered_though_the_lane_is_for_any(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    toy("toy-1")
    shared = [send("ok", model_type="any", priority="high"), send("bad", model_type="any", priority="high")]
    ended = all_ended(gateway, shared, 20)
    assert [(request.lane, request.state) for request in ended] == [("high", State.SUCCEEDED), ("high", State.FAILED)]

    def counted() -> dict[tuple[str, str], float]:
        found = monitor.histograms()
        return {key: sum(n for bucket, n in row.items() if bucket != "sum") for key, row in found.items()}

    wait_until(lambda: counted().get(("high.toy", "total")) == 2, what="statistics are flushed")
    counts = counted()
    stages = {stage: count for (lane, stage), count in counts.items() if lane == "high.toy" and stage != "eta_error"}
    assert stages == {"queue": 2, "decode": 1, "infer": 1, "total": 2}
    assert {lane for lane, _ in counts} == {"high.toy"}
    assert list(monitor.batch_sizes()) == ["high.toy"]


def test_what_no_model_had_at_its_end_is_counted_under_its_lane(send: Send, gateway: Gateway, monitor: Monitor) -> None:
    waiting = send("ok", model_type="any")
    gateway.cancel(waiting)
    assert list(monitor.histograms()) == [("normal", "total")]


def test_a_remark_is_written_into_a_timeline_and_nowhere_else(send: Send, gateway: Gateway) -> None:
    request_id = send()
    gateway.records.remark(request_id, "webhook", status=204)
    request = gateway.get(request_id)
    assert (request.state, request.timeline[-1]["event"], request.timeline[-1]["status"]) == (
        State.QUEUED, "webhook", 204,
    )  # fmt: skip
    gateway.records.remark("nobody", "webhook", status=204)
    assert gateway.records.get_many(["nobody"]) == []
