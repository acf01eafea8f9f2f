"""Who is let in when the lanes fill up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest
import redis

from tasks.errors import IdReused, LaneFull, TaskError, TooManyWaiters
from tasks.inspect.monitor import Monitor
from tasks.producer.admission import Admitted
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.producer.live_workers import LiveWorkers, QueueLoad
from tasks.producer.publisher import Answer
from tasks.protocol.keys import Keys
from tasks.protocol.requests import State
from tests.support.stack import Stack


@pytest.fixture
def small(stack: Stack) -> Iterator[Gateway]:
    gateway = Gateway(stack.settings(MAX_QUEUE=20))
    yield gateway
    gateway.close()


def test_low_is_refused_first_then_normal_then_high(small: Gateway, monitor: Monitor) -> None:
    assert fill(small, "low", "normal", "high") == {"low": 10, "normal": 6, "high": 2}
    assert monitor.counters()["refused"] == 36 - 18


def test_each_priority_has_a_place_that_the_others_cannot_take(small: Gateway, monitor: Monitor) -> None:
    assert fill(small, "high", "high", "low", "normal") == {"high": 18, "low": 1, "normal": 1}
    assert sum(row["queued"] for row in monitor.ledger().values()) == 20


def test_soon_after_a_refusal_images_are_sent_only_when_there_is_room(
    small: Gateway, monitor: Monitor, stack: Stack
) -> None:
    fill(small, "high", "high")
    with redis.Redis.from_url(stack.redis_url) as client:
        before = images_sent(client), monitor.counters()["refused"]
        outcomes = small.submit_many([photo() for _ in range(3)])
        assert [type(outcome) for outcome in outcomes] == [LaneFull] * 3
        assert (images_sent(client), monitor.counters()["refused"]) == (before[0], before[1] + 3)
        small.cancel(waiting(client, stack))
        outcomes = small.submit_many([photo(), photo()])
        assert [type(outcome) for outcome in outcomes] == [Accepted, LaneFull]
        assert monitor.counters()["refused"] == before[1] + 4
        assert not list(client.scan_iter(Keys(stack.settings().key_prefix).upload("*")))


def test_soon_after_a_refusal_what_was_accepted_before_is_known(small: Gateway) -> None:
    name = small.submit(photo(fingerprint="a")).id
    fill(small, "high", "high")
    assert small.submit(photo(fingerprint="a", request_id=name)).replayed
    with pytest.raises(IdReused):
        small.submit(photo(fingerprint="b", request_id=name))


@pytest.mark.parametrize("chunk", [2, 16])
def test_all_are_accepted_or_none(stack: Stack, monitor: Monitor, chunk: int) -> None:
    with closing(Gateway(stack.settings(MAX_QUEUE=20, BATCH_CHUNK=chunk))) as gateway:
        accepted = gateway.submit_all_and_wait([photo() for _ in range(15)], 0)
        assert [request.state for request in accepted] == [State.QUEUED] * 15
        with pytest.raises(LaneFull) as caught:
            gateway.submit_all_and_wait([photo() for _ in range(5)], 0)
        assert caught.value.retry_after
        assert monitor.ledger()["high.resnet18"]["accepted"] == 15
        assert len(gateway.submit_all_and_wait([photo() for _ in range(3)], 0)) == 3


def test_what_was_accepted_before_others_took_the_room_is_canceled(
    stack: Stack, small: Gateway, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another caller comes between its question and its images."""
    with closing(Gateway(stack.settings(MAX_QUEUE=20, BATCH_CHUNK=1))) as gateway:
        run = gateway.publisher._run_accept

        def late(entries: Sequence[Admitted], reply: str = "", *, ask: bool = False) -> list[Answer]:
            if not ask and not small.records.client.exists("come"):
                small.records.client.set("come", 1)
                fill(small, "high", "high")
            return run(entries, reply, ask=ask)

        monkeypatch.setattr(gateway.publisher, "_run_accept", late)
        small.submit_many([photo() for _ in range(12)])
        with pytest.raises(LaneFull):
            gateway.submit_all_and_wait([photo() for _ in range(4)], 0)
    row = monitor.ledger()["high.resnet18"]
    assert row["queued"] == 18, "of the others"
    assert row["accepted"] == row["queued"] + row["canceled"]


def test_without_a_place_to_wait_nothing_is_accepted(stack: Stack, monitor: Monitor) -> None:
    with closing(Gateway(stack.settings(MAX_WAITERS=1))) as gateway:
        gateway.waiter._places.acquire()
        for count in (1, 3):
            with pytest.raises(TooManyWaiters):
                gateway.submit_all_and_wait([photo() for _ in range(count)], 0)
    assert not monitor.ledger()


def photo(**fields: str) -> Submission:
    return Submission(image=b"ok", model_type="resnet18", priority="high", **fields)  # type: ignore[arg-type]


def fill(gateway: Gateway, *priorities: str) -> Counter[str]:
    """Send twelve of each in turn; how many were accepted. Refusals have a ``retry_after``."""
    accepted: Counter[str] = Counter()
    for priority in priorities:
        submission = Submission(image=b"ok", model_type="resnet18", priority=priority)
        outcomes = [gateway.submit_many([submission])[0] for _ in range(12)]
        accepted[priority] += sum(isinstance(outcome, Accepted) for outcome in outcomes)
        check_refusals([outcome for outcome in outcomes if not isinstance(outcome, Accepted)])
    return accepted


def check_refusals(refused: Sequence[TaskError]) -> None:
    assert all(isinstance(refusal, LaneFull) and refusal.retry_after for refusal in refused)


def images_sent(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"])


def waiting(client: redis.Redis, stack: Stack) -> str:
    """One that waits."""
    return str(client.zrange(Keys(stack.settings().key_prefix).recent, 0, 0)[0].decode())


@pytest.mark.parametrize(("priority", "queued"), [("high", 4), ("normal", 8), ("low", 24)])
def test_a_lane_has_a_limit_in_time_which_is_shorter_for_the_urgent(
    priority: str, queued: int, stack: Stack, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds for high, at half a second a request, are four requests ahead."""
    worker = {"model": "toy", "state": "busy", "service_seconds": 0.5}
    load = QueueLoad([worker], {f"{priority}.toy": queued})
    monkeypatch.setattr(LiveWorkers, "load", lambda _self: load)
    with closing(Gateway(stack.settings(MODELS="toy", MAX_QUEUE_WAIT=2))) as gateway:
        submission = Submission(image=b"ok", model_type="toy", priority=priority)
        first = gateway.submit(submission)
        load = QueueLoad([worker], {f"{priority}.toy": queued + 3})
        with pytest.raises(LaneFull, match="MAX_QUEUE_WAIT") as refused:
            gateway.submit(submission)
        assert refused.value.retry_after == 1.5
        assert gateway.submit(replace(submission, request_id=first.id)).replayed
        assert [type(answer) for answer in gateway.submit_many([submission] * 2)] == [LaneFull] * 2
    assert monitor.counters()["refused"] == 3
    assert monitor.ledger()[f"{priority}.toy"]["accepted"] == 1
