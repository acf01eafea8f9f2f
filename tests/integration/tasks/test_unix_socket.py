"""Redis at a Unix socket, with a password and a separate database, for systems on one machine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import redis

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.requests import State
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack

PASSWORD = "sesame-open-up"  # noqa: S105 - of a server that lives for a few seconds


@pytest.mark.parametrize("database", [0, 3])
def test_a_worker_answers_through_a_unix_socket(tmp_path: Path, database: int) -> None:
    address = f"unix://:{PASSWORD}@{tmp_path / 'redis.sock'}"
    url = f"{address}?db={database}" if database else address
    server = RedisServer(
        tmp_path / "redis",
        options=["--port", "0", "--unixsocket", str(tmp_path / "redis.sock"), "--requirepass", PASSWORD],
        client=url,
    )
    try:
        with Stack(url, tmp_path / "run", MODELS="toy") as stack, closing(Gateway(stack.settings())) as gateway:
            stack.start_worker("tests.toy:toy", name="toy-1")
            ids = [gateway.submit(Submission(image=b"ok", model_type="toy")).id for _ in range(20)]
            requests = all_ended(gateway, ids, 20)
            assert {request.state for request in requests} == {State.SUCCEEDED}
            check_answered_once(requests)
            check_books(Monitor(stack.settings()), requests)
            databases = redis.Redis.from_url(address, decode_responses=True).info("keyspace")
            assert set(databases) == {f"db{database}"}
    finally:
        server.stop()
