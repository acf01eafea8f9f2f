"""Lane names, and the order in which a worker looks at its lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lanes import ORDERS, SAVED, STRATEGIES, Lane, StrictOrder, WeightedOrder, lanes_of


def served(order: WeightedOrder, takes: int, has_work: Callable[[str], bool]) -> Counter[str]:
    """How often each lane is served when those with work never run dry."""
    counts: Counter[str] = Counter()
    for _ in range(takes):
        name = next(lane for lane in order.consume(99) if has_work(lane))
        order.rotate(name)
        counts[name] += 1
    return counts


def by_priority(counts: Counter[str]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for name, count in counts.items():
        totals[Lane.parse(name).priority] += count
    return totals


def test_a_worker_consumes_its_own_and_the_shared_lanes_most_urgent_first() -> None:
    assert lanes_of("resnet18") == ["high.resnet18", "high", "normal.resnet18", "normal", "low.resnet18", "low"]


@given(st.sampled_from(["high", "normal", "low"]), st.sampled_from(["any", "resnet18", "my_model"]))
def test_a_lane_survives_being_named_and_parsed(priority: str, model: str) -> None:
    assert Lane.parse(Lane(priority, model).name) == (priority, model)


def test_full_lanes_share_exactly_six_to_three_to_one_and_alternate_inside_a_priority() -> None:
    order = WeightedOrder()
    order.update(lanes_of("m"))
    counts = served(order, 60, lambda _: True)
    assert by_priority(counts) == {"high": 36, "normal": 18, "low": 6}
    assert counts["high"] == counts["high.m"] == 18


def test_a_message_of_many_requests_is_as_many_turns() -> None:
    order = WeightedOrder()
    order.update(["high", "normal"])
    counts: Counter[str] = Counter()
    for _ in range(600):
        name = order.consume()[0]
        size = 16 if name == "normal" else 1
        order.rotate(name, size)
        counts[name] += size
    assert abs(counts["high"] - 2 * counts["normal"]) <= SAVED + 2 * 16


@given(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)), st.integers(0, 2))
def test_shares_follow_the_weights_whichever_priority_is_empty(weights: tuple[int, int, int], empty: int) -> None:
    order = WeightedOrder(weights)
    order.update(["high", "normal", "low"])
    left = [i for i in range(3) if i != empty]
    names = ["high", "normal", "low"]
    rounds = sum(weights[i] for i in left)
    counts = served(order, 20 * rounds, lambda lane: lane != names[empty])
    for i in left:
        assert abs(counts[names[i]] - 20 * weights[i]) <= max(weights) + 1


@given(st.lists(st.sampled_from(lanes_of("m")), max_size=12), st.integers(1, 8))
def test_a_plan_is_what_would_follow_and_changes_nothing(served_before: list[str], takes: int) -> None:
    order = WeightedOrder()
    order.update(lanes_of("m"))
    for name in served_before:
        order.rotate(name)
    planned = order.plan(takes, 6)
    for expected in planned:
        assert order.consume(6) == expected
        order.rotate(expected[0])
    assert len(planned) == takes


def test_only_high_saves_up_turns_while_it_is_idle_and_no_more_than_so_many() -> None:
    order = WeightedOrder()
    order.update(["high", "normal", "low"])
    served(order, 1000, lambda lane: lane == "low")
    assert served(order, SAVED, lambda _: True) == {"high": SAVED}
    counts = served(order, 100, lambda _: True)
    assert counts == pytest.approx({"high": 60, "normal": 30, "low": 10}, abs=1)


def test_high_goes_first_whenever_it_comes_while_less_of_it_comes_than_its_share() -> None:
    order = WeightedOrder()
    order.update(["high", "normal", "low"])
    for _ in range(40):
        counts = served(order, 30, lambda lane: lane != "high")
        assert abs(counts["normal"] - 3 * counts["low"]) <= 4
        assert served(order, 20, lambda _: True) == {"high": 20}


def test_high_cannot_keep_the_others_from_their_shares_for_long() -> None:
    order = WeightedOrder()
    order.update(["high", "normal", "low"])
    served(order, 1000, lambda lane: lane != "high")
    counts = served(order, 1000, lambda _: True)
    assert counts["low"] >= 0.1 * (1000 - SAVED) - 1


def test_the_order_does_not_depend_on_the_order_in_which_lanes_were_added() -> None:
    order = WeightedOrder()
    order.update(["low", "normal.m", "high", "low.m"])
    assert [Lane.parse(name).priority for name in order.consume(4)] == ["high", "normal", "low", "low"]


def test_strict_order_starves_low_while_there_is_anything_else() -> None:
    order = StrictOrder()
    order.update(lanes_of("m"))
    assert by_priority(served(order, 50, lambda _: True)) == {"high": 50}
    assert ORDERS["strict"] is StrictOrder


@pytest.mark.parametrize(
    ("name", "expected"), [("least_loaded", {"any"}), ("round_robin", {"a", "b"}), ("random", {"a", "b"})]
)
def test_strategies_choose_among_the_live_models(name: str, expected: set[str]) -> None:
    choose = STRATEGIES[name]()
    assert {choose(["a", "b"]) for _ in range(64)} == expected


def test_round_robin_takes_turns() -> None:
    choose = STRATEGIES["round_robin"]()
    assert [choose(["a", "b", "c"]) for _ in range(6)] == ["a", "b", "c"] * 2
