from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferlane import AsyncClient, traffic
from inferlane.images import Upload
from inferlane.retries import ONCE
from tests.unit.client.test_client import done, problem

SHOT = traffic.Shot(Upload(b"x"), {})


def test_requests_arrive_at_the_rate_asked_for_and_the_same_seed_gives_the_same_moments() -> None:
    times, same = (list(traffic.arrivals(100, 100, random.Random(1))) for _ in range(2))  # noqa: S311
    assert times == same
    assert times == sorted(times)
    assert 0 < times[0] <= times[-1] < 100
    assert len(times) == pytest.approx(10_000, rel=0.05)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = traffic.percentile(ordered, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6  # type: ignore[operator]
    smaller = [value for value in values if value < found]  # type: ignore[operator]
    assert len(smaller) < share * len(values)


def test_bursts_come_together_and_the_last_may_be_smaller() -> None:
    assert list(traffic.bursts(3, 2.0, 7)) == [0.0] * 3 + [2.0] * 3 + [4.0]


class Slow(httpx.AsyncBaseTransport):
    """Answers 0.2 s late and counts how many calls were under way at once."""

    now = most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.2)
        self.now -= 1
        return done(request.url.params["request_id"])


def drive(
    times: Iterable[float | None], in_flight: int, transport: httpx.AsyncBaseTransport, shot: traffic.Shot = SHOT
) -> traffic.Account:
    async def play() -> traffic.Account:
        async with AsyncClient("http://nowhere", retries=ONCE, transport=transport) as client:
            return await traffic.drive(client, itertools.repeat(shot), times, in_flight=in_flight)

    return asyncio.run(play())


def test_requests_start_in_time_however_slow_the_answers_are() -> None:
    slow = Slow()
    account = drive([0.01 * n for n in range(10)], 100, slow)
    assert slow.most == 10
    assert (account.sent, account.unsent) == (10, 0)
    assert all(0.2 <= latency < 0.6 for latency in account.latencies)


def test_latency_counts_from_the_moment_a_request_should_have_started() -> None:
    """All were due half a second ago, as after a hiccup of this process: that wait is part of their latency."""
    account = drive([-0.5, -0.5], 100, Slow())
    assert min(account.latencies) >= 0.7


def test_what_is_beyond_the_places_is_not_sent_and_counted() -> None:
    account = drive([0.0] * 5, 2, Slow())
    assert (account.sent, account.unsent) == (2, 3)


def test_errors_are_counted_by_code_and_have_no_latency() -> None:
    transport = httpx.MockTransport(lambda _: problem(503, "lane_full"))
    document = drive([0.0, 0.01], 10, transport).document()
    assert document["errors"] == {"lane_full": 2}
    assert document["latency"] == dict.fromkeys(("p50", "p90", "p95", "p99", "max"))


def test_users_wait_for_their_answer_before_they_ask_again() -> None:
    slow = Slow()
    account = drive(traffic.users(6), 2, slow)
    assert slow.most == 2
    assert (account.sent, account.unsent) == (6, 0)
    assert min(account.latencies) >= 0.2
    # Two at a time: with the waiting it would be twice as much, on a slow machine as well.
    assert sum(account.latencies) <= 2 * account.elapsed, "waiting for a place is no part of the latency"


def test_an_answer_that_the_judge_rejects_is_an_error() -> None:
    wrong = traffic.Shot(Upload(b"x"), {}, lambda result: "" if result.best.label == "unicorn" else "wrong_answer")
    account = drive([0.0, 0.0], 2, Slow(), wrong)
    assert account.errors == {"wrong_answer": 2}
    assert account.latencies == []
