"""Decoders share memory: they wait for one another, in turn, and lose none of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.support.waiting import wait_until
from worker_models.preprocess import MemoryBudget


@examples(max_examples=25)
@given(needs=st.lists(st.integers(1, 100), max_size=40))
def test_no_more_is_ever_in_use_than_there_is(needs: list[int]):
    budget, most = MemoryBudget(), 0
    lock = threading.Lock()

    def take(needed: int) -> None:
        nonlocal most
        with budget.hold(needed, 100), lock:
            most = max(most, budget.used)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, needs))
    assert most <= 100
    assert budget.used == 0


def test_what_needs_much_is_not_passed_by_what_needs_little():
    budget, order = MemoryBudget(), []

    def take(name: str, needed: int) -> None:
        with budget.hold(needed, 100):
            order.append(name)

    with budget.hold(60, 100):
        large = threading.Thread(target=take, args=("large", 90))
        large.start()
        wait_until(budget._turn.locked, 5, what="the large one waits")
        small = threading.Thread(target=take, args=("small", 1))
        small.start()
        assert order == []
    large.join(5)
    small.join(5)
    assert sorted(order) == ["large", "small"]
    assert order[0] == "large"


def test_an_error_frees_what_was_held():
    budget = MemoryBudget()
    with pytest.raises(ValueError, match="torn"), budget.hold(50, 100):
        raise ValueError("torn")
    assert budget.used == 0
