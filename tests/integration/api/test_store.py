"""What the API keeps in Redis: budgets that hold across processes and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from api.features.batches import Batches, Member, StoredBatch
from api.features.cache import SharedAnswers
from api.http.rate_limit import Budgets
from common.settings import Settings, load_settings
from tasks.errors import BrokerUnavailable
from tests.support.waiting import wait_until


@pytest.fixture
def settings(empty_redis: str) -> Settings:
    return load_settings({"REDIS_URL": empty_redis})


@pytest.fixture
def budgets(settings: Settings) -> Budgets:
    return Budgets(settings)


def test_concurrent_callers_cannot_spend_more_than_the_budget(budgets: Budgets) -> None:
    with ThreadPoolExecutor(8) as pool:
        left = list(pool.map(lambda _: budgets.spend("ann", 20, 600)[0], range(50)))
    assert sorted(left) == [-1] * 30 + list(range(20))


def test_budgets_are_apart_and_fill_up_again(budgets: Budgets) -> None:
    assert budgets.spend("ann", 1, 0.3)[0] == 0
    left, after = budgets.spend("ann", 1, 0.3)
    assert left == -1
    assert 0 < after <= 0.3
    assert budgets.spend("bob", 1, 0.3)[0] == 0
    wait_until(lambda: budgets.spend("ann", 1, 0.3)[0] == 0, 2, what="the budget fills up")


def test_several_calls_are_taken_together_or_not_at_all(budgets: Budgets) -> None:
    assert budgets.spend("ann", 10, 600, 7)[0] == 3
    left, after = budgets.spend("ann", 10, 600, 4)
    assert left == -1
    assert 0 < after <= 60  # one call comes back in a minute
    assert budgets.spend("ann", 10, 600, 3)[0] == 0


def test_a_batch_comes_back_as_it_was_kept(settings: Settings) -> None:
    batches = Batches(settings)
    members = [Member(0, "a", "b.0"), Member(1, None, None, {"code": "invalid_base64"})]
    for batch in (StoredBatch(12.5, members), StoredBatch(12.5, members, "https://hooks.example.org/")):
        batches.save("b", batch)
        assert batches.batch("b") == batch
    assert batches.batch("other") is None


def test_without_redis_it_says_so() -> None:
    budgets = Budgets(load_settings({"REDIS_URL": "redis://127.0.0.1:1/0"}))
    with pytest.raises(BrokerUnavailable):
        budgets.spend("ann", 1, 1)


def test_a_claim_is_kept_by_the_first_and_released_by_its_owner_only(settings: Settings) -> None:
    answers = SharedAnswers(settings)
    assert answers.claim("k", "first", 60) == "first"
    assert answers.claim("k", "second", 60) == "first"
    answers.release("k", "second")
    assert answers.claim("k", "third", 60) == "first"
    answers.release("k", "first")
    assert answers.claim("k", "fourth", 60) == "fourth"
