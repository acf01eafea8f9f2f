"""Medians, percentiles, targets and budgets of the benchmark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.budget import Budget
from bench.runs import MeasuredRun, closed_loop
from bench.statistics import percentile, spread
from bench.targets import at_least, at_most

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


@given(VALUES, st.floats(0, 1))
def test_a_percentile_is_a_measured_value_that_enough_values_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-4 * len(values)


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 2
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7], 0.0) == 7
    assert percentile(range(1, 101), 1.0) == 100


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_percentile_of_nothing_is_an_error(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_a_spread_keeps_the_extremes() -> None:
    found = spread([3, 1, 2])
    assert (found.median, found.least, found.greatest, found.count) == (2, 1, 3, 3)
    assert found.text(2) == "2.00 (1.00-3.00)"
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_a_target_says_by_how_much_it_was_missed() -> None:
    assert at_least("share", 0.9, 0.9).result == "reached"
    assert at_least("share", 0.9, 0.7).result == "missed by 0.20"
    assert at_most("delay", 5, 4, "ms").result == "reached"
    assert at_most("delay", 5, 17.5, "ms").row == ["delay", "≤ 5.00 ms", "17.5 ms", "missed by 12.5 ms"]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rounds_go_on_only_while_one_as_long_as_the_longest_fits() -> None:
    clock = Clock()
    rounds = []
    for number in Budget(100, clock=clock).rounds(10):
        rounds.append(number)
        clock.now += 30 if number == 1 else 25
    assert rounds == [0, 1, 2]


def test_there_is_one_round_however_little_time_there_is() -> None:
    clock = Clock()
    clock.now = 50
    budget = Budget(0.0, clock=clock)
    assert list(budget.rounds(3)) == [0, 1, 2], "a round that takes no time fits"
    clock.now = 60
    assert budget.left == -10
    assert next(budget.rounds(3)) == 0


def test_a_closed_loop_counts_what_was_answered_after_the_warm_up() -> None:
    calls = []

    def once() -> int:
        calls.append(1)
        return 3

    spent = iter([10.0, 12.5])
    run = closed_loop(once, 2, 0.0, lambda: {"part": next(spent)}, warm=0.0)
    assert len(calls) == 4, "each of two callers asks once while warming and once while measured"
    assert (run.answered, len(run.latencies), run.cpu_seconds) == (6, 2, {"part": 2.5})


def test_a_run_is_kept_in_milliseconds_and_core_milliseconds() -> None:
    run = MeasuredRun(
        answered=200, seconds=2.0, latencies=[0.01, 0.02, 0.5], cpu_seconds={"api": 0.4}, caller_cpu_seconds=0.1
    )
    kept = run.to_json()
    assert (kept["rate"], kept["core_ms"], kept["caller_core_ms"]) == (100.0, {"api": 2.0}, 0.5)
    assert (kept["p50_ms"], kept["p99_ms"]) == (20.0, 500.0)
