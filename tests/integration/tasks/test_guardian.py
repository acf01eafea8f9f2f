"""A worker's guardian: it keeps the lease of one that cannot, and knows which death may be blamed on a request."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway
from tasks.protocol.requests import Request, State
from tests.support.oracle import all_ended, check_books
from tests.support.stack import WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


def deaths(request: Request) -> list[int]:
    """The crashes that were counted at each death it met."""
    return [event["crashes"] for event in request.timeline if event["event"] == "worker_died"]


def signal_both(worker: WorkerProcess, number: int) -> None:
    """What happens to the worker's machine happens to both of its processes."""
    os.kill(worker.guardian, number)
    os.kill(worker.pid, number)


@pytest.mark.parametrize("place", ["decode", "infer", "predictions"])
def test_a_model_that_keeps_the_interpreter_for_longer_than_a_lease_is_not_declared_dead(
    place: str, toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    busy = toy("busy")
    long = send(f"gil 5 in {place}")
    wait_until(lambda: gateway.get(long).state is State.RUNNING)
    toy("idle")
    (request,) = all_ended(gateway, [long], 20)
    assert (request.state, request.attempts, request.worker_id) == (State.SUCCEEDED, 1, busy.node)
    assert monitor.counters()["workers_lost"] == 0
    check_books(monitor, [request])


def test_a_model_that_keeps_the_interpreter_for_too_long_is_ended(toy: Toy, send: Send, gateway: Gateway) -> None:
    hung = toy("hung", HARD_TIMEOUT=2, MAX_DELIVERIES=1)
    stuck = send("gil 30")
    wait_until(lambda: gateway.get(stuck).state is State.RUNNING)
    assert hung.wait(15) == -signal.SIGKILL
    assert "HARD_TIMEOUT" in hung.log()
    again = toy("again", HARD_TIMEOUT=2, MAX_DELIVERIES=1)
    assert again.wait(20) == -signal.SIGKILL
    (request,) = all_ended(gateway, [stuck], 10)
    assert (deaths(request), (request.error or {}).get("code")) == ([0, 1], "poison")


def test_a_worker_that_is_killed_or_frozen_is_blamed_on_no_request_however_often(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    request_id = send(f"ran {tmp_path / 'ran'};until {tmp_path / 'go'}")
    for number, kill in enumerate(("worker", "guardian", "group", "freeze", "worker")):
        victim = toy(f"victim-{number}", MAX_DELIVERIES=1)
        wait_until(lambda node=victim.node: gateway.get(request_id).worker_id == node)
        if kill == "freeze":
            frozen = victim
            signal_both(frozen, signal.SIGSTOP)
            continue
        if kill == "group":
            victim.kill()
        else:
            os.kill(victim.pid if kill == "worker" else victim.guardian, signal.SIGKILL)
        assert victim.wait(10) == -signal.SIGKILL
        wait_until(lambda pid=victim.pid: not psutil.pid_exists(pid), what="the worker ends with its guardian")
    (tmp_path / "go").touch()
    toy("last")
    (request,) = all_ended(gateway, [request_id], 10)
    assert (request.state, request.attempts, deaths(request)) == (State.SUCCEEDED, 6, [0, 0, 0, 0, 0])
    signal_both(frozen, signal.SIGCONT)
    check_books(monitor, [request])


@pytest.mark.parametrize(("order", "status"), [("segfault", -signal.SIGSEGV), ("exit", 1), ("exit in decode", 1)])
def test_a_worker_that_ends_by_itself_is_blamed_on_the_request_that_ran_alone(
    order: str, status: int, toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    poison, others = send(order), [send("sleep 0.1") for _ in range(3)]
    for number in range(2):
        assert toy(f"victim-{number}", MAX_DELIVERIES=1, ready=False).wait(30) == status
    toy("last")
    requests = all_ended(gateway, [poison, *others], 15)
    assert [request.state for request in requests] == [State.FAILED, *[State.SUCCEEDED] * 3]
    assert ((requests[0].error or {}).get("code"), deaths(requests[0])) == ("poison", [0, 1])
    assert {count for request in requests[1:] for count in deaths(request)} <= {0}
    check_books(monitor, requests)


def test_the_guardian_passes_a_stop_on_and_ends_as_the_worker_does(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    worker = toy("leaver")
    request_id = send("sleep 1")
    wait_until(lambda: gateway.get(request_id).state is State.RUNNING)
    os.kill(worker.guardian, signal.SIGTERM)
    assert worker.wait(15) == 0
    request = gateway.get(request_id)
    assert (request.state, request.attempts) == (State.SUCCEEDED, 1)
    assert (monitor.counters()["workers_left"], monitor.counters()["workers_lost"]) == (1, 0)


def test_sighup_restarts_the_worker_in_its_place(toy: Toy, send: Send, gateway: Gateway, monitor: Monitor) -> None:
    worker = toy("again")
    (before,) = monitor.workers()
    worker.send(signal.SIGHUP)
    wait_until(lambda: [row["boot"] for row in monitor.workers()] not in ([], [before["boot"]]), 30, what="it is back")
    (after,) = monitor.workers()
    assert (after["id"], after["pid"]) == (before["id"], before["pid"])
    assert gateway.wait(send("ok"), 10).state is State.SUCCEEDED
