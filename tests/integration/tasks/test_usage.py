"""Usage equals the ledger, whatever becomes of the requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis

from tasks.control.dead_letters import DeadLetters
from tasks.control.orders import Controls
from tasks.errors import NotAccepted
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.keys import Keys
from tasks.protocol.owners import owner_of
from tasks.protocol.requests import State
from tasks.protocol.usage import OUTCOMES, Row
from tests.support.oracle import all_ended
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]


@pytest.fixture
def gateway(stack: Stack) -> Iterator[Gateway]:
    with closing(Gateway(stack.settings(MODELS="toy", MAX_QUEUE=100))) as gateway:
        yield gateway


@pytest.fixture
def monitor(stack: Stack) -> Monitor:
    return Monitor(stack.settings(MODELS="toy"))


def send(gateway: Gateway, owner: str, text: str = "ok", **more: object) -> str:
    return gateway.submit(Submission(image=text.encode(), model_type="toy", owner=owner, **more)).id


def total(rows: list[Row], what: str) -> float:
    return sum(row[what] for row in rows)


def test_usage_equals_the_ledger(gateway: Gateway, monitor: Monitor, toy: Toy, stack: Stack) -> None:
    controls = Controls(stack.settings(MODELS="toy"))
    controls.pause("normal.toy", "test")
    canceled = [send(gateway, "ann"), send(gateway, "bob")]
    for name in canceled:
        gateway.cancel(name)
    expired = send(gateway, "bob", deadline=0.05)
    toy("first")
    wait_until(lambda: gateway.get(expired).state is State.EXPIRED, what="the deadline passes")
    controls.resume("normal.toy")
    first = toy("second")
    sent = [send(gateway, owner, "sleep 0.2") for owner in ("ann", "bob", "anonymous") for _ in range(6)]
    wait_until(lambda: gateway.get(sent[0]).state is State.RUNNING, what="one runs")
    first.kill()
    dead = send(gateway, "ann", "error")
    sent += [dead, send(gateway, "bob", "bad image")]
    all_ended(gateway, sent, 30)
    DeadLetters(stack.settings(MODELS="toy")).requeue(dead)
    wait_until(lambda: gateway.get(dead).state is State.FAILED, what="it fails again")

    rows, ledger = monitor.usage(), monitor.ledger()
    requeued = monitor.counters()["requeued"]
    assert requeued == 1
    for outcome in OUTCOMES:
        booked = sum(lane[outcome] for lane in ledger.values())
        assert total(rows, outcome) == booked + (requeued if outcome == "failed" else 0), outcome
        assert total(rows, outcome) > 0
    assert {row["owner"] for row in rows} == {"ann", "bob", "anonymous"}
    assert {row["model"] for row in rows} == {"toy"}
    (anonymous,) = monitor.usage("anonymous")
    assert (anonymous["succeeded"], anonymous["images"], anonymous["bytes"]) == (6, 6, 6 * len("sleep 0.2"))
    assert anonymous["compute_seconds"] > 0
    assert total(monitor.usage("ann"), "requests") == sum(owner_of(name) == "ann" for name in (*sent, *canceled)) + 1


def test_refusals_are_counted_for_their_owner(stack: Stack, monitor: Monitor) -> None:
    with closing(Gateway(stack.settings(MODELS="toy", MAX_QUEUE=4))) as gateway:
        items = [Submission(image=b"ok", model_type="toy", owner="ann") for _ in range(6)]
        answers = gateway.submit_many(items)
    refused = [answer for answer in answers if isinstance(answer, NotAccepted)]
    assert len(refused) == len([answer for answer in answers if not isinstance(answer, Accepted)]) > 0
    (row,) = monitor.usage()
    assert (row["owner"], row["refused"], row["requests"]) == ("ann", len(refused), 0)


def test_a_day_of_usage_is_kept_for_35_days(gateway: Gateway, monitor: Monitor, toy: Toy, stack: Stack) -> None:
    toy("only")
    all_ended(gateway, [send(gateway, "ann") for _ in range(3)], 10)
    keys = Keys(stack.settings().key_prefix)
    with redis.Redis.from_url(stack.settings().redis_url) as client:
        (name,) = client.scan_iter(keys.usage("*"))
        assert 35 * 86_400 < client.ttl(name) <= 36 * 86_400
        client.rename(name, name.rpartition(b":")[0] + b":%d" % (int(name.rpartition(b":")[2]) - 34))
    assert total(monitor.usage(days=35), "succeeded") == 3
    assert monitor.usage(days=34) == []
