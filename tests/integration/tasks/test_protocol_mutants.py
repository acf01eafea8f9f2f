"""The test of the protocol notices scripts that lose a message or count wrongly."""

from __future__ import annotations

from hashlib import sha1

import pytest
from hypothesis import Phase

from tasks.protocol import scripts
from tests.integration.tasks.test_protocol import EXAMPLES, run_machine
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("retry", "redis.call('ZADD', retries"),
        ("promote", "send(prefix .. lane"),
        ("take", "line_up(lane, owner, 'LPUSH'"),
        ("purge", "adopt(lane)"),
        ("accept", "if open then redis.call('HINCRBY', opens"),
        *((script, "if r.counted and redis.call('HINCRBY', opens") for script in ("cancel", "commit", "purge")),
    ],
)
def test_it_notices_a_message_or_a_count_that_gets_lost(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, script: str, text: str
) -> None:
    source = scripts._source

    def mutated(name: str) -> tuple[str, str]:
        found, digest = source(name)
        if name != script:
            return found, digest
        assert found.count(text) == 1
        found = found.replace(text, f"-- {text}")
        return found, sha1(found.encode(), usedforsecurity=False).hexdigest()

    monkeypatch.setattr(scripts, "_source", mutated)
    with pytest.raises((AssertionError, ExceptionGroup)):
        # Which examples come depends on the modules that are imported; the first failure ends the run.
        run_machine(redis_server.url, 10 * EXAMPLES, phases=[Phase.generate], derandomize=True, database=None)
