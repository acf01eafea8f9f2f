from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferlane.retries import Retries, retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@given(st.integers(0, 10_000), st.floats(0.01, 10), st.floats(0.01, 100))
def test_pauses_grow_up_to_the_longest_and_are_never_zero(attempt: int, first: float, most: float) -> None:
    pause = Retries(first=first, most=most).pause(attempt)
    assert 0 < pause <= most
    assert pause <= first * 2.0 ** min(attempt, 30)


@given(st.integers(0, 50), st.floats(0, 1000))
def test_a_pause_is_never_shorter_than_asked_for_and_not_much_longer(attempt: int, asked: float) -> None:
    assert asked <= Retries().pause(attempt, asked) <= asked * 1.25


def test_clients_that_failed_together_do_not_come_back_together() -> None:
    assert len({Retries().pause(3, 10.0) for _ in range(50)}) > 40


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_holds_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds
