"""Rates of the last minute, from what is counted by the minute."""

from __future__ import annotations

import pytest
import redis

from tasks.inspect import history
from tasks.inspect.history import History
from tasks.protocol.keys import Keys
from tests.support.stack import Stack

MINUTE = 30_000_000


@pytest.mark.parametrize(("second", "accepted"), [(0, 12 + 6), (15, 9 + 6), (59.9, 0.02 + 6)])
def test_a_rate_is_that_of_the_last_sixty_seconds(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, second: float, accepted: float
) -> None:
    monkeypatch.setattr(history.time, "time", lambda: 60 * MINUTE + second)
    keys = Keys("rates:")
    with redis.Redis.from_url(stack.redis_url) as client:
        for minute, number in ((MINUTE - 1, 12), (MINUTE, 6)):
            client.hset(
                f"{keys.prefix}minute:{minute}", mapping={"normal.m:accepted": number, "normal.m:failed": number}
            )
        found = History(client, keys)
        assert found.rates() == pytest.approx({("normal.m", "in"): accepted / 60, ("normal.m", "out"): accepted / 60})
        (row,) = found.lately(["anonymous"]).values()
    assert row == {
        "rate_in": pytest.approx(accepted / 60),
        "rate_out": pytest.approx(accepted / 60),
        "errors": 1.0,
        "share": None,
    }


def test_rows_of_many_owners_do_not_pile_up(empty_redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT", 100)
    with redis.Redis.from_url(empty_redis) as client:
        found, fresh = (History(client, Keys("many:")) for _ in range(2))
        rows = [found.rows(60, 1, f"owner-{number}") for number in range(50)]
        assert rows[-1] == found.rows(60, 1, "owner-49") == fresh.rows(60, 1, "owner-49")
    assert len(found._past) <= 100
