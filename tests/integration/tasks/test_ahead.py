"""What was taken ahead does not wait: ``running`` means it runs, deadlines hold, and the free get the work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_books
from tests.support.stack import WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]


def test_what_was_taken_ahead_of_a_long_pass_is_answered_by_the_worker_that_is_free(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    busy = toy("busy")
    long = send(f"ran {tmp_path / 'ran'};until {tmp_path / 'go'}")
    wait_until((tmp_path / "ran").exists)
    ahead = [send("ok", priority="high", deadline=10) for _ in range(3)]
    sent = time.monotonic()
    wait_until(lambda: monitor.ledger()["high.toy"]["running"] == 3)
    free = toy("free")
    requests = all_ended(gateway, ahead, 5)
    assert time.monotonic() - sent < 5
    assert {(r.state, r.worker_id, r.attempts) for r in requests} == {(State.SUCCEEDED, free.node, 1)}
    assert gateway.get(long).worker_id == busy.node
    (tmp_path / "go").touch()
    check_books(monitor, [*all_ended(gateway, [long], 5), *requests])


def test_behind_a_long_pass_requests_are_queued_and_their_deadlines_hold(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor, tmp_path: Path
) -> None:
    toy("only")
    long = send(f"ran {tmp_path / 'ran'};until {tmp_path / 'go'}")
    wait_until((tmp_path / "ran").exists)
    late, patient, canceled = send(f"ran {tmp_path / 'late'}", deadline=2), send("ok"), send("ok")
    wait_until(lambda: monitor.ledger()["normal.toy"]["running"] == 4)
    wait_until(lambda: monitor.ledger()["normal.toy"]["running"] == 1, 3)
    assert gateway.get(patient).state is State.QUEUED
    gateway.cancel(canceled)
    wait_until(lambda: gateway.get(late).state is State.EXPIRED, 4)
    more = [send("ok") for _ in range(40)]  # more than are ever taken ahead
    (tmp_path / "go").touch()
    requests = all_ended(gateway, [long, late, patient, canceled, *more], 10)
    assert [str(r.state) for r in requests[:4]] == ["succeeded", "expired", "succeeded", "canceled"]
    assert {(r.state, r.attempts) for r in (requests[2], *requests[4:])} == {(State.SUCCEEDED, 1)}
    assert not (tmp_path / "late").exists()
    check_books(monitor, requests)


def test_an_urgent_request_does_not_wait_for_a_long_message(
    toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    """A message of sixteen is more than a worker takes ahead; what is urgent comes after the pass that runs."""
    toy("only", MAX_BATCH=1)
    flood = gateway.submit_many([Submission(image=b"sleep 0.2", model_type="toy") for _ in range(16)])
    wait_until(lambda: monitor.ledger()["normal.toy"]["running"] > 0)
    urgent = all_ended(gateway, [send("ok", priority="high")], 10)[0]
    requests = all_ended(gateway, [accepted.id for accepted in flood if isinstance(accepted, Accepted)], 20)
    sent, started = urgent.created_at, urgent.started_at or 0.0
    before = [request for request in requests if sent < (request.completed_at or 0.0) < started]
    assert len(before) <= 3
    check_books(monitor, [urgent, *requests])
