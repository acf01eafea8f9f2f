"""The channel alone: the same behaviour as stock kombu where it must be the same, and the take where it must not."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Exchange, Queue
from kombu.transport.redis import Transport as StockTransport

from tasks.protocol import envelope, scripts
from tasks.protocol.keys import Keys
from tasks.worker import ownership
from tasks.worker.channel import Transport
from tasks.worker.registration import Registration
from tests.support.stack import Stack

PREFIX = "t:"
OPTIONS = {"global_keyprefix": PREFIX, "priority_steps": [0], "queue_order_strategy": "tasks.lanes:configured_order"}
Connect = Callable[[type[StockTransport]], Connection]


@pytest.fixture
def connect(empty_redis: str) -> Iterator[Connect]:
    opened: list[Connection] = []

    def open_connection(transport: type[StockTransport]) -> Connection:
        connection = Connection(empty_redis, transport=transport, transport_options=OPTIONS)
        opened.append(connection)
        return connection

    yield open_connection
    for connection in opened:
        connection.release()


@pytest.fixture
def client(empty_redis: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(empty_redis) as client:
        yield client


@pytest.fixture
def owner(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> ownership.Ownership:
    """Make this process a registered worker for one test."""
    monkeypatch.setattr(ownership, "_current", None)
    owner = ownership.claim("test@host")
    scripts.run(client, "renew", (), [PREFIX, owner.boot, 60_000, "{}", "1"])
    return owner


def drain(connection: Connection, messages: list[Any], number: int) -> None:
    while len(messages) < number:
        connection.drain_events(timeout=5)


def collect(connection: Connection, *queues: Queue, no_ack: bool = False) -> tuple[Consumer, list[Any]]:
    messages: list[Any] = []
    consumer = Consumer(
        connection.channel(), list(queues), callbacks=[lambda _, message: messages.append(message)], no_ack=no_ack
    )
    consumer.consume()
    return consumer, messages


def collect_batches(connection: Connection, owner: ownership.Ownership, batch: int) -> list[Any]:
    """What a worker whose model takes so many at a time is handed from ``q``."""
    owner.batch = batch
    consumer, messages = collect(connection, Queue("q"))
    consumer.qos(prefetch_count=16)
    return messages


@pytest.mark.parametrize("transport", [StockTransport, Transport])
@pytest.mark.parametrize("exchange", ["", "named"])
class TestWhatEveryRedisTransportDoes:
    def test_messages_arrive_in_order_with_body_and_headers(
        self, connect: Connect, transport: type[StockTransport], exchange: str
    ) -> None:
        connection = connect(transport)
        queue = Queue("q", Exchange(exchange, "direct"), routing_key="q")
        _, messages = collect(connection, queue)
        producer = connection.Producer()
        for number in range(5):
            producer.publish({"n": number}, exchange=exchange, routing_key="q", headers={"h": number})
        drain(connection, messages, 5)
        assert [(message.payload["n"], message.headers["h"]) for message in messages] == [(n, n) for n in range(5)]

    def test_a_consumer_without_acknowledgement_needs_none(
        self, connect: Connect, transport: type[StockTransport], exchange: str
    ) -> None:
        connection = connect(transport)
        _, messages = collect(connection, Queue("q", Exchange(exchange, "direct"), routing_key="q"), no_ack=True)
        connection.Producer().publish("x", exchange=exchange, routing_key="q")
        drain(connection, messages, 1)

    def test_purge_and_size_count_what_waits(
        self, connect: Connect, transport: type[StockTransport], exchange: str
    ) -> None:
        connection = connect(transport)
        channel = connection.channel()
        queue = Queue("q", Exchange(exchange, "direct"), routing_key="q")(channel)
        queue.declare()
        for _ in range(3):
            connection.Producer().publish("x", exchange=exchange, routing_key="q")
        assert queue.queue_declare().message_count == 3
        assert queue.purge() == 3


def test_a_take_writes_down_the_holder_in_the_same_step_and_settling_travels_with_the_next_one(
    connect: Connect, client: redis.Redis, owner: ownership.Ownership
) -> None:
    connection = connect(Transport)
    keys = Keys(PREFIX)
    _, messages = collect(connection, Queue("q"))
    for _ in range(2):
        connection.Producer().publish("x", routing_key="q")
    drain(connection, messages, 2)
    assert client.hlen(keys.unacked(owner.boot)) == 2
    assert len(owner) == 2
    messages[0].ack()
    assert len(owner) == 1
    connection.Producer().publish("x", routing_key="q")
    drain(connection, messages, 3)
    assert client.hlen(keys.unacked(owner.boot)) == 2


def test_a_take_brings_a_batch_at_most_and_two_are_in_hand(
    connect: Connect, client: redis.Redis, owner: ownership.Ownership
) -> None:
    connection = connect(Transport)
    messages = collect_batches(connection, owner, 3)
    for number in range(8):
        connection.Producer().publish(number, routing_key="q")
    connection.drain_events(timeout=5)
    assert [message.payload for message in messages] == [0, 1, 2]
    connection.drain_events(timeout=5)
    assert len(messages) == len(owner) == client.hlen(Keys(PREFIX).unacked(owner.boot)) == 6
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.3)
    for message in messages:
        message.ack()
    connection.drain_events(timeout=5)
    assert [message.payload for message in messages[6:]] == [6, 7]


def test_a_take_stops_at_the_message_that_fills_the_batch(connect: Connect, owner: ownership.Ownership) -> None:
    connection = connect(Transport)
    messages = collect_batches(connection, owner, 4)
    for size in (3, 3, 1):
        connection.Producer().publish(size, routing_key="q", headers={envelope.SIZE: size})
    connection.drain_events(timeout=5)
    assert [message.payload for message in messages] == [3, 3]
    assert owner.room() == 2


def test_credit_counts_what_the_process_holds_also_after_a_reconnect(
    connect: Connect, owner: ownership.Ownership
) -> None:
    first = connect(Transport)
    consumer, messages = collect(first, Queue("q"))
    consumer.qos(prefetch_count=2)
    for _ in range(4):
        first.Producer().publish("x", routing_key="q")
    drain(first, messages, 2)
    first.release()
    second = connect(Transport)
    consumer, more = collect(second, Queue("q"))
    consumer.qos(prefetch_count=2)
    with pytest.raises(socket.timeout):
        second.drain_events(timeout=0.3)
    messages[0].ack()
    drain(second, more, 1)


def test_closing_a_channel_gives_nothing_back(
    connect: Connect, client: redis.Redis, owner: ownership.Ownership
) -> None:
    connection = connect(Transport)
    _, messages = collect(connection, Queue("q"))
    connection.Producer().publish("x", routing_key="q")
    drain(connection, messages, 1)
    connection.release()
    assert client.llen(f"{PREFIX}q") == 0
    assert client.hlen(Keys(PREFIX).unacked(owner.boot)) == 1


def test_a_worker_that_is_not_registered_is_handed_nothing(
    connect: Connect, client: redis.Redis, owner: ownership.Ownership
) -> None:
    client.hdel(Keys(PREFIX).workers, owner.boot)
    connection = connect(Transport)
    collect(connection, Queue("q"))
    connection.Producer().publish("x", routing_key="q")
    with pytest.raises(socket.timeout):
        connection.drain_events(timeout=0.3)
    assert client.llen(f"{PREFIX}q") == 1


def test_a_rejected_delivery_goes_back_to_the_head_of_its_lane(
    connect: Connect, client: redis.Redis, owner: ownership.Ownership, stack: Stack
) -> None:
    connection = connect(Transport)
    consumer, messages = collect(connection, Queue("q"))
    consumer.qos(prefetch_count=1)
    for name in ("first", "second"):
        connection.Producer().publish(name, routing_key="q")
    drain(connection, messages, 1)
    messages[0].reject(requeue=True)
    owner.taking = False
    registration = Registration(client, stack.settings(KEY_PREFIX=PREFIX))
    assert [registration.reconcile(owner) for _ in range(2)] == [0, 1]
    owner.taking = True
    drain(connection, messages, 2)
    assert [message.payload for message in messages] == ["first", "first"]


def test_a_script_forgotten_by_the_server_is_sent_again(
    connect: Connect, client: redis.Redis, owner: ownership.Ownership
) -> None:
    connection = connect(Transport)
    _, messages = collect(connection, Queue("q"))
    client.script_flush()
    connection.Producer().publish("x", routing_key="q")
    drain(connection, messages, 1)
