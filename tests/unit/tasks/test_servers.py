"""Which servers are supported, by the INFO of real versions."""

from __future__ import annotations

import pytest

from tasks.protocol.servers import identity, refusal

VALKEY = {"server_name": "valkey", "redis_version": "7.2.4", "server_mode": "standalone"}


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "7.0.15", "redis_mode": "standalone"},
        {"redis_version": 7.0, "redis_mode": "sentinel"},  # redis-py makes a number of what looks like one
        {"redis_version": "8.2.1", "redis_mode": "standalone"},
        {"redis_version": "255.255.255"},  # a development build
        {**VALKEY, "valkey_version": "7.2.5", "redis_mode": "standalone"},
        {**VALKEY, "valkey_version": "9.1.2"},
    ],
)
def test_a_supported_server_is_not_refused(info: dict[str, object]) -> None:
    assert refusal(info) == ""


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ({"redis_version": "6.2.14", "redis_mode": "standalone"}, "Redis 6.2.14 is too old"),
        ({"redis_version": "5.0.7"}, "Redis 5.0.7 is too old"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "Valkey 7.1.0 is too old"),
        ({}, "of an unknown version"),
        ({"redis_version": "7.0.15", "redis_mode": "cluster"}, "Redis runs as a cluster"),
        ({**VALKEY, "valkey_version": "9.1.2", "server_mode": "cluster"}, "Valkey runs as a cluster"),
    ],
)
def test_what_cannot_hold_the_queue_is_refused_in_one_line_that_says_what_to_run(
    info: dict[str, object], says: str
) -> None:
    said = refusal(info)
    assert says in said
    assert ": run " in said
    assert "\n" not in said


def test_valkey_is_named_by_its_own_version() -> None:
    assert identity({**VALKEY, "valkey_version": "9.1.2"}) == ("Valkey", "9.1.2")
