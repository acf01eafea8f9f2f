"""Models of one's own that misbehave: each ends its own request only, and what others hear of the worker is true."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_books
from tests.support.stack import WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]

PLACES = ("decode", "infer", "predictions")
RAISED = {
    "quit": "SystemExit: 3",
    "interrupt": "KeyboardInterrupt: ",
    "panic": "Panic: told to panic",
    "mute": "MuteError",
}
NO_NUMBERS = ("nan", "infinity", "huge")


def test_whatever_a_model_raises_or_answers_ends_its_own_request_only(
    toy: Toy, gateway: Gateway, monitor: Monitor
) -> None:
    """All in one worker, mixed with good requests, and the worker survives."""
    worker = toy("toy-1", MAX_RETRIES=0)
    wrong = [f"{what} in {place}" if place != "infer" else what for what in RAISED for place in PLACES]
    texts = [text for order in [*wrong, *NO_NUMBERS, "strange"] for text in (order, "ok")]
    accepted = gateway.submit_many([Submission(image=text.encode(), model_type="toy") for text in texts])
    requests = all_ended(gateway, [one.id for one in accepted if isinstance(one, Accepted)], 20)
    found = dict(zip(texts, requests, strict=True))
    assert {request.state for text, request in zip(texts, requests, strict=True) if text == "ok"} == {State.SUCCEEDED}
    for order in wrong:
        error = found[order].error
        assert error == {"code": "inference_failed", "message": RAISED[order.split()[0]], "retryable": True}, order
    for order in (*NO_NUMBERS, "strange"):
        error = found[order].error
        assert error is not None
        assert error["code"] == "inference_failed", order
    check_books(monitor, requests)
    told = [(worker.pid, "idle", 0, len(wrong) + 4)]
    wait_until(
        lambda: [tuple(row[it] for it in ("pid", "state", "in_flight", "failed")) for row in monitor.workers()] == told
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_model_that_hangs_ends_its_worker_and_nobody_elses_request(
    place: str, toy: Toy, send: Send, gateway: Gateway, monitor: Monitor
) -> None:
    hung = toy("hung", HARD_TIMEOUT=1.5)
    stuck = send(f"hang in {place}")
    wait_until(lambda: gateway.get(stuck).state is State.RUNNING)
    others = [send("ok") for _ in range(3)]
    gateway.cancel(stuck)
    assert hung.wait(15) == 75
    assert "HARD_TIMEOUT" in hung.log()
    toy("other")
    requests = all_ended(gateway, others, 10)
    assert {request.state for request in requests} == {State.SUCCEEDED}
    check_books(monitor, [gateway.get(stuck), *requests])
