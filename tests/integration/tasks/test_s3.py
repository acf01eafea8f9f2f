"""Images in a bucket of an S3 server: the same promises as with a folder, and none lost while the server is away."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest
import redis
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from tasks.control.dead_letters import DeadLetters
from tasks.errors import BrokerUnavailable
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol import payloads
from tasks.protocol.payloads import PayloadLost, Payloads
from tasks.protocol.requests import State
from tests.integration.api.conftest import image
from tests.support.oracle import all_ended, check_books
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Send = Callable[..., str]
Objects = Callable[[], list[bytes]]
GIF = {"Content-Type": "image/gif"}


@pytest.fixture(scope="module")
def s3() -> Iterator[ThreadedMotoServer]:
    """An S3 server that keeps its objects while it is stopped; the environment names it, as docs/deploying.md says."""
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        environ.setenv("AWS_ACCESS_KEY_ID", "inferlane")
        environ.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environ.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environ.setenv("AWS_MAX_ATTEMPTS", "1")
        server.start()
        yield server
        server.stop()
        payloads.store_at.cache_clear()
        S3FileSystem.clear_instance_cache()


@pytest.fixture
def client(s3: ThreadedMotoServer) -> Iterator[Any]:
    client = boto3.client("s3")
    yield client
    client.close()


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    """A bucket for this test alone."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def payload_store(bucket: str) -> str:
    return f"s3://{bucket}/prefix"


@pytest.fixture
def objects(client: Any, bucket: str) -> Objects:
    """The stored images now."""

    def read() -> list[bytes]:
        images = []
        for found in client.list_objects_v2(Bucket=bucket, Prefix="prefix/").get("Contents", []):
            with suppress(client.exceptions.NoSuchKey):  # deleted since
                images.append(client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
        return sorted(images)

    return read


def test_every_end_deletes_the_object_and_a_dead_letter_keeps_it(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor, own_redis: RedisServer, objects: Objects
) -> None:
    canceled, ok, bad, error = send(), send("ok"), send("bad"), send("error")
    assert objects() == [b"bad", b"error", b"ok", b"ok"]
    with redis.Redis.from_url(own_redis.url) as server:
        assert not list(server.scan_iter("*image:*"))
    gateway.cancel(canceled)
    toy("toy-1", MAX_RETRIES=0)
    requests = all_ended(gateway, [canceled, ok, bad, error], 20)
    assert [r.state for r in requests] == ["canceled", "succeeded", "failed", "failed"]
    wait_until(lambda: objects() == [b"error"], 10, what="all but the dead letter's go")
    letters = DeadLetters(stack.settings())
    letters.requeue(error)
    assert gateway.wait(error, 20).attempts == 2
    assert objects() == [b"error"]
    letters.delete(error)
    wait_until(lambda: not objects(), 10, what="the deleted dead letter's object goes")
    check_books(monitor, gateway.records.get_many([request.id for request in requests]))


def test_from_the_api_to_the_answer_an_image_is_written_once_and_read_once(
    toy: Toy, stack: Stack, bucket: str, objects: Objects, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "werkzeug")  # the S3 server's log
    api = stack.start_api(MODELS="toy")
    sent = api.client.post("/inference", content=image(), headers=GIF | {"Prefer": "respond-async"})
    assert sent.status_code == 202, sent.text
    toy("toy-1")
    answer = f"/inference/{sent.json()['request_id']}"
    wait_until(lambda: api.client.get(answer).json()["status"] == "succeeded", 20)
    wait_until(lambda: f"POST /{bucket}?delete " in caplog.text, 10, what="the object goes")
    assert re.findall(rf"([A-Z]+) /{bucket}/prefix/\w+/[\w-]+ ", caplog.text) == ["PUT", "GET"]
    assert not objects()


def test_the_sweep_deletes_old_orphans_of_this_system_alone(
    stack: Stack,
    gateway: Gateway,
    send: Send,
    own_redis: RedisServer,
    objects: Objects,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payloads, "SECOND_LOOK", 0)
    with redis.Redis.from_url(own_redis.url) as server:
        mine, theirs = (Payloads(server, stack.settings(KEY_PREFIX=prefix)) for prefix in ("inferlane:", "other:"))
        accepted, orphan, foreign = send(), mine.put(b"orphan"), theirs.put(b"foreign")
        assert mine.sweep() == 0, "they are young"
        monkeypatch.setattr(payloads, "ORPHAN_AGE", 0)
        assert wait_until(mine.sweep, 10, what="the orphan is older than a second") == 1
        with pytest.raises(PayloadLost):
            mine.get(orphan)
        assert (theirs.get(foreign), gateway.records.image(accepted)) == (b"foreign", b"ok")
    assert objects() == [b"foreign", b"ok"]


def test_without_the_server_acceptance_is_refused_and_what_was_accepted_is_kept(
    toy: Toy, stack: Stack, send: Send, gateway: Gateway, monitor: Monitor, s3: ThreadedMotoServer, objects: Objects
) -> None:
    kept = send()
    api = stack.start_api(MODELS="toy")
    s3.stop()
    try:
        with pytest.raises(BrokerUnavailable, match="PAYLOAD_STORE"):
            send()
        refused = api.client.post("/inference", content=image(), headers=GIF)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/broker_unavailable")
        assert "ConnectionError" in refused.json()["detail"]
        assert "Retry-After" in refused.headers
        health = api.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert "PAYLOAD_STORE" in str(health.json()["findings"])
        assert api.client.get("/readyz").status_code == 200, "answers can still be read"
        toy("toy-1", MAX_RETRIES=0)
        failed = gateway.wait(kept, 20)
        assert failed.error is not None
        assert failed.error["code"] == "image_unreadable"
    finally:
        s3.start()
    assert objects() == [b"ok"]
    DeadLetters(stack.settings()).requeue(kept)
    wait_until(lambda: gateway.get(kept).state is State.SUCCEEDED, 20)
    wait_until(lambda: not objects(), 10, what="the object goes")
    later = send()
    assert gateway.wait(later, 20).state is State.SUCCEEDED
    check_books(monitor, gateway.records.get_many([kept, later]))


@pytest.mark.slow
def test_a_server_that_accepts_connections_and_never_answers_is_a_refusal(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        api = stack.start_api(MODELS="toy")
        refused = api.client.post("/inference", content=image(), headers=GIF)
        assert refused.status_code == 503
        assert "FSTimeoutError" in refused.json()["detail"]


def test_a_bucket_that_is_not_there_is_refused_and_not_made(stack: Stack, client: Any, bucket: str) -> None:
    gateway = Gateway(stack.settings(MODELS="toy", PAYLOAD_STORE="s3://no-such-bucket/prefix"))
    with pytest.raises(BrokerUnavailable, match="takes no image"):
        gateway.submit(Submission(image=b"ok", model_type="toy"))
    gateway.close()
    assert "no-such-bucket" not in [one["Name"] for one in client.list_buckets()["Buckets"]]
