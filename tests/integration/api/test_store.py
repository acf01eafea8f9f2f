"""What the API keeps in Redis: budgets that hold across processes and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from api.features.store import Batch, Member, Store
from common.settings import load_settings
from tasks.errors import Unavailable
from tests.support.waiting import wait_until


@pytest.fixture
def store(empty_redis: str) -> Store:
    return Store(load_settings({"REDIS_URL": empty_redis}))


def test_concurrent_callers_cannot_spend_more_than_the_budget(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        left = list(pool.map(lambda _: store.spend("ann", 20, 600)[0], range(50)))
    assert sorted(left) == [-1] * 30 + list(range(20))


def test_budgets_are_apart_and_fill_up_again(store: Store) -> None:
    assert store.spend("ann", 1, 0.3)[0] == 0
    left, after = store.spend("ann", 1, 0.3)
    assert left == -1
    assert 0 < after <= 0.3
    assert store.spend("bob", 1, 0.3)[0] == 0
    wait_until(lambda: store.spend("ann", 1, 0.3)[0] == 0, 2, what="the budget fills up")


def test_several_calls_are_taken_together_or_not_at_all(store: Store) -> None:
    assert store.spend("ann", 10, 600, 7)[0] == 3
    left, after = store.spend("ann", 10, 600, 4)
    assert left == -1
    assert 0 < after <= 60  # one call comes back in a minute
    assert store.spend("ann", 10, 600, 3)[0] == 0


def test_a_batch_comes_back_as_it_was_kept(store: Store) -> None:
    members = [Member(0, "a", "b.0"), Member(1, None, None, {"code": "invalid_base64"})]
    for batch in (Batch(12.5, members), Batch(12.5, members, "https://hooks.example.org/")):
        store.save_batch("b", batch)
        assert store.batch("b") == batch
    assert store.batch("other") is None


def test_without_redis_it_says_so() -> None:
    store = Store(load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"}))
    with pytest.raises(Unavailable):
        store.spend("ann", 1, 1)


def test_a_claim_is_kept_by_the_first_and_released_by_its_owner_only(store: Store) -> None:
    assert store.claim("k", "first", 60) == "first"
    assert store.claim("k", "second", 60) == "first"
    store.release("k", "second")
    assert store.claim("k", "third", 60) == "first"
    store.release("k", "first")
    assert store.claim("k", "fourth", 60) == "fourth"
