"""Many requests in all lanes: high first, low never starved, the books exact."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import median

from tasks.control.orders import Controls
from tasks.inspect.monitor import Monitor
from tasks.lanes import PRIORITIES
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


def test_a_thousand_requests_in_all_lanes_balance_and_high_is_served_first(
    toy: Toy, gateway: Gateway, monitor: Monitor, stack: Stack
) -> None:
    toy("toy-1", "-c", "4")
    controls = Controls(stack.settings())
    lanes = [f"{priority}{suffix}" for priority in PRIORITIES for suffix in ("", ".toy")]
    for lane in lanes:
        controls.pause(lane, "test")
    items = [
        Submission(
            image=b"bad" if i % 50 == 0 else b"ok", model_type=("toy", "any")[i % 2], priority=PRIORITIES[i // 2 % 3]
        )
        for i in range(1000)
    ]
    ids = [gateway.submit(item).id for item in items]
    assert sum(row["queued"] for row in monitor.ledger().values()) == 1000
    assert {row["lane"] for row in monitor.lanes() if row["paused"]} == set(lanes)
    for lane in lanes:
        controls.resume(lane)
    requests = all_ended(gateway, ids, 60)
    check_books(monitor, requests)
    check_answered_once(requests)
    started = {p: median(r.started_at or 0 for r in requests if r.priority == p) for p in PRIORITIES}
    assert started["high"] < started["normal"] < started["low"]


def test_low_progresses_while_high_is_saturated(toy: Toy, gateway: Gateway, monitor: Monitor) -> None:
    toy("toy-1", "-c", "1", MAX_BATCH=1)
    stop = threading.Event()

    def keep_high_full() -> None:
        while not stop.wait(0.02):
            if monitor.ledger().get("high.toy", {}).get("queued", 0) < 30:
                for _ in range(10):
                    gateway.submit(Submission(image=b"sleep 0.02", model_type="toy", priority="high"))

    flood = threading.Thread(target=keep_high_full)
    flood.start()
    try:
        wait_until(lambda: monitor.ledger().get("high.toy", {}).get("queued", 0) >= 20)
        low = [gateway.submit(Submission(image=b"sleep 0.02", model_type="toy", priority="low")).id for _ in range(5)]
        served_before = monitor.ledger()["high.toy"]["succeeded"]
        requests = all_ended(gateway, low, 30)
        ledger = monitor.ledger()["high.toy"]
    finally:
        stop.set()
        flood.join()
    assert {request.state for request in requests} == {State.SUCCEEDED}
    assert ledger["queued"] > 0  # it was saturated all the while
    # Six high for one low, give or take what was under way.
    assert 15 <= ledger["succeeded"] - served_before <= 60


def test_nobody_waits_longer_for_being_more_urgent(toy: Toy, gateway: Gateway, monitor: Monitor, stack: Stack) -> None:
    """Most of the load is high: by turns alone, high would wait for longer than the few that are normal or low."""
    controls = Controls(stack.settings())
    for priority in PRIORITIES:
        controls.pause(f"{priority}.toy", "test")
    order = ["high"] * 4 + ["normal"] + ["high"] * 4 + ["low"]
    items = [Submission(image=b"ok", model_type="toy", priority=order[i % 10]) for i in range(100)]
    ids = [gateway.submit(item).id for item in items]
    for priority in PRIORITIES:
        controls.resume(f"{priority}.toy")
    toy("toy-1", "-c", "1", MAX_BATCH=1)
    requests = all_ended(gateway, ids, 60)
    check_books(monitor, requests)
    served = sorted(requests, key=lambda request: request.started_at or 0)
    for place, request in enumerate(served):
        older = [other for other in served[place + 1 :] if other.created_at < request.created_at]
        overtaken = [other for other in older if PRIORITIES.index(other.priority) < PRIORITIES.index(request.priority)]
        assert len(overtaken) <= 1  # the one that is next in the same hands
    low = [place for place, request in enumerate(served) if request.priority == "low"]
    assert low[0] < 50  # and low has its turns: it does not wait for all that is high


def test_a_paused_lane_accepts_and_waits(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack
) -> None:
    toy("toy-1")
    controls = Controls(stack.settings())
    gateway.wait(send(), 10)  # so that how long one takes is known
    wait_until(lambda: _etas(monitor)["normal.toy"] is not None, what="a measured service time")
    controls.pause("normal.toy", "somebody")
    waiting = send()
    assert monitor.eta(gateway.get(waiting)) is None  # nobody knows when it starts
    # Nothing of the paused lane is ahead of what is less urgent.
    assert [_etas(monitor)[lane] for lane in ("normal.toy", "low.toy")] == [None, 0]
    assert gateway.wait(send(priority="high"), 10).state is State.SUCCEEDED
    assert gateway.get(waiting).state is State.QUEUED
    assert monitor.paused()["normal.toy"]["by"] == "somebody"
    controls.resume("normal.toy")
    assert gateway.wait(waiting, 5).state is State.SUCCEEDED


def _etas(monitor: Monitor) -> dict[str, float | None]:
    return {row["lane"]: row["eta"] for row in monitor.lanes()}


def test_a_deadline_is_not_judged_by_the_backlog_of_a_paused_lane(
    toy: Toy, gateway: Gateway, monitor: Monitor, stack: Stack
) -> None:
    """How long a pause lasts is unknown: the request is accepted, and expires if the lane is not resumed in time."""
    toy("toy-1")
    gateway.wait(gateway.submit(Submission(image=b"sleep 0.5", model_type="toy")).id, 10)
    wait_until(lambda: _etas(monitor)["normal.toy"] is not None, what="a measured service time")
    Controls(stack.settings()).pause("normal.toy", "somebody")
    backlog = [Submission(image=b"ok", model_type="toy") for _ in range(20)]
    fresh = Gateway(stack.settings(MODELS="toy"))
    try:
        fresh.submit_many(backlog)
        assert fresh.submit(Submission(image=b"ok", model_type="toy", deadline=1.0)).state is State.QUEUED
    finally:
        fresh.close()


def test_a_drained_worker_finishes_and_takes_nothing_until_it_may(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, stack: Stack
) -> None:
    worker = toy("toy-1")
    controls = Controls(stack.settings())
    running = send("sleep 1")
    wait_until(lambda: gateway.get(running).state is State.RUNNING)
    controls.drain(worker.node)
    wait_until(lambda: monitor.workers()[0]["state"] == "draining")
    waiting = send()
    assert gateway.wait(running, 10).state is State.SUCCEEDED
    assert gateway.wait(waiting, 2).state is State.QUEUED
    controls.undrain(worker.node)
    assert gateway.wait(waiting, 5).state is State.SUCCEEDED


def test_what_is_urgent_does_not_wait_behind_all_that_one_worker_could_carry(
    toy: Toy, stack: Stack, monitor: Monitor
) -> None:
    """Eight deliveries of eight requests each would be 64 in one pair of hands; two are enough to keep it busy."""
    gateway = Gateway(stack.settings(BATCH_CHUNK=8, MODELS="toy"))
    low = [Submission(image=b"sleep 0.05", model_type="toy", priority="low") for _ in range(80)]
    ids = [accepted.id for accepted in gateway.submit_many(low) if not isinstance(accepted, Exception)]
    toy("toy-1", "-c", "8", MAX_BATCH=2)
    wait_until(lambda: monitor.ledger().get("low.toy", {}).get("succeeded", 0) >= 2, 10, what="the worker is busy")
    _, record = gateway.submit_and_wait(Submission(image=b"ok", model_type="toy", priority="high"), 20)
    assert record is not None
    assert record.state is State.SUCCEEDED
    assert sum(request.state.terminal for request in gateway.records.get_many(ids)) <= 24
    check_books(monitor, [*all_ended(gateway, ids, 20), record])
    gateway.close()
