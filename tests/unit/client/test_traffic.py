from __future__ import annotations

import asyncio
import random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import AsyncClient, traffic
from client.images import Upload
from client.retries import ONCE
from tests.unit.client.test_client import done, problem


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


class Slow(httpx.AsyncBaseTransport):
    """Answers 0.2 s late and counts how many calls were under way at once."""

    now = most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.2)
        self.now -= 1
        return done(request.url.params["request_id"])


def drive(times: list[float], in_flight: int, transport: httpx.AsyncBaseTransport) -> traffic.Account:
    async def play() -> traffic.Account:
        async with AsyncClient("http://nowhere", retries=ONCE, transport=transport) as client:
            return await traffic.drive(client, [Upload(b"x")], iter(times), {}, in_flight=in_flight)

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
