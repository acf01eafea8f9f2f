from __future__ import annotations

import pytest

from dashboard.formatting import count, duration, epoch, percent, rate, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\u2013"), (0, "0 s"), (0.0042, "4.2 ms"), (0.045, "45 ms"), (0.9994, "999 ms"), (0.9999, "1.0 s"),
        (10.2, "10 s"), (59.94, "1 min 0 s"), (75, "1 min 15 s"), (3599.6, "1 h 0 min"), (7260, "2 h 1 min"),
    ],
)  # fmt: skip
def test_a_duration_is_told_in_the_unit_people_would_use(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "\u2013"), (512, "512 B"), (2048, "2 KiB"), (150_000_000, "143 MiB"), (3 * 2**30, "3.0 GiB")],
)
def test_a_size_is_told_in_binary_units(number: int | None, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0.0, "none"), (0.001, "< 1 a minute"), (0.0096, "1 a minute"), (1.0, "1/s"), (2.44, "2.4/s"), (150.2, "150/s")],
)
def test_a_rate_is_told_by_the_second_or_by_the_minute(per_second: float, text: str) -> None:
    assert rate(per_second) == text


def test_one_thing_is_not_many_things() -> None:
    assert (count(1, "worker"), count(0, "worker"), count(10_000, "request")) == (
        "1 worker",
        "0 workers",
        "10,000 requests",
    )


def test_a_share_is_a_percentage_and_nothing_is_a_dash() -> None:
    assert (percent(0.0123), percent(None)) == ("1.2 %", "\u2013")


def test_a_timestamp_becomes_epoch_seconds() -> None:
    assert epoch("2027-01-15T08:00:00.500Z") == 1_800_000_000.5
    assert epoch(None) is None
