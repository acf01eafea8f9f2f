"""Connections that stay open: they outlive the server, give each reply to its command, and end with their thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.exceptions import NoScriptError, ResponseError

from tasks.protocol import connections
from tasks.protocol.connections import LARGE, PinnedClient
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


@pytest.fixture
def pinned(own_redis: RedisServer) -> Iterator[PinnedClient]:
    found = PinnedClient(connections.prompt(own_redis.url))
    yield found
    found.close()


def test_a_restart_of_the_server_costs_a_repetition(pinned: PinnedClient, own_redis: RedisServer) -> None:
    pinned.execute_command("SET", "a", "1")
    own_redis.kill()
    own_redis.start()
    assert pinned.pipeline([("PING",), ("ECHO", "b")]) == [b"PONG", b"b"]


def test_an_error_is_raised_when_every_reply_has_been_read(pinned: PinnedClient) -> None:
    pinned.execute_command("SET", "a", "text")
    with pytest.raises(ResponseError, match="not an integer"):
        pinned.pipeline([("INCR", "a"), ("ECHO", "first")])
    assert pinned.execute_command("ECHO", "second") == b"second"


def test_an_unknown_script_is_reported_in_its_place(pinned: PinnedClient) -> None:
    first, second = pinned.pipeline([("EVALSHA", "0" * 40, 0), ("ECHO", "after")])
    assert isinstance(first, NoScriptError)
    assert second == b"after"


@pytest.mark.parametrize("size", [1, LARGE, 3 * LARGE])
def test_a_pipeline_keeps_its_order_whatever_the_size(pinned: PinnedClient, size: int) -> None:
    image = b"x" * size
    assert pinned.pipeline([("SET", "a", image), ("STRLEN", "a"), ("GET", "a")]) == [b"OK", size, image]


def test_blocking_may_last_longer_than_a_prompt_client_waits(pinned: PinnedClient) -> None:
    assert pinned.block(1.2, "BLPOP", "nothing", "1.2") is None


def test_threads_do_not_get_each_others_replies(pinned: PinnedClient) -> None:
    words = [str(number) for number in range(400)]
    with ThreadPoolExecutor(8) as threads:
        assert [
            word.decode() for word in threads.map(lambda word: pinned.execute_command("ECHO", word), words)
        ] == words


def test_the_connection_of_a_thread_ends_with_it(pinned: PinnedClient, own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        before = client.info("clients")["connected_clients"]
        used = threading.Barrier(9)
        go_on = threading.Event()

        def use() -> None:
            pinned.execute_command("PING")
            used.wait(10)
            go_on.wait(10)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        used.wait(10)
        assert client.info("clients")["connected_clients"] >= before + 8
        go_on.set()
        for thread in threads:
            thread.join()
        wait_until(lambda: client.info("clients")["connected_clients"] <= before, 10, what="they are closed")


def test_threads_that_have_ended_leave_no_mark(pinned: PinnedClient) -> None:
    """More of them than redis-py's pool makes connections: a process lives for months, its threads do not."""
    for _ in range(120):
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(pinned.execute_command, "PING").result() == b"PONG"
