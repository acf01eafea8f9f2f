"""A webhook of a real request: signed, repeated until it is taken, once the request has ended."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError
from werkzeug.test import EnvironBuilder

from api.features.webhooks.outbox import TAKEN, Outbox
from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.pages import snippets
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()


class Receiver(ThreadingHTTPServer):
    """Keeps what it got; answers with the statuses it was given, then 200."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.seconds = seconds

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        time.sleep(self.server.seconds)
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serving() as server:
        yield server


@contextmanager
def serving(seconds: float = 0.0) -> Iterator[Receiver]:
    """A receiver that takes so long for each."""
    with Receiver(seconds) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(stack: Stack) -> ApiProcess:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    return stack.start_api(MODELS=MODELS, WEBHOOK_SECRET=SECRET, WEBHOOK_HOSTS="127.0.0.1")


def send(http: httpx.Client, order: str, url: str, key: str = "") -> str:
    params = {"model_type": "toy", "callback_url": url}
    headers = {"Content-Type": "image/gif", "Prefer": "respond-async", "Idempotency-Key": key}
    answer = http.post("/inference", params=params, content=image(order), headers=headers)
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json()["request_id"])


def test_the_end_of_a_request_is_told_signed_and_once(api: ApiProcess, receiver: Receiver) -> None:
    names = {
        send(api.client, order, receiver.url): end for order, end in (("sleep 0.3", "succeeded"), (" bad ", "failed"))
    }
    wait_until(lambda: len(receiver.got) == 2, 10, what="both webhooks")
    for headers, body in receiver.got:
        said = Webhook(SECRET).verify(body, {key.lower(): value for key, value in headers.items()})
        end = names.pop(said["data"]["request_id"])
        assert (said["type"], said["data"]["status"]) == (f"inference.{end}", end)
        wait_until(partial(written, api, said["data"]["urls"]["self"]), 10, what="its line in the timeline")


def test_the_example_of_the_page_verifies_it(api: ApiProcess, receiver: Receiver) -> None:
    (example,) = (text for text in snippets("docs/api.md") if "standardwebhooks" in text)
    name = send(api.client, "ok", receiver.url)
    headers, body = wait_until(lambda: receiver.got[0] if receiver.got else None, 10, what="the webhook") or ({}, b"")
    given: dict[str, Any] = {
        "WEBHOOK_SECRET": SECRET,
        "request": EnvironBuilder(headers=headers, data=body).get_request(),
    }
    exec(compile(example, "docs/api.md", "exec"), given)  # noqa: S102 - our own page
    assert (given["event"]["type"], given["event"]["data"]["request_id"]) == ("inference.succeeded", name)
    given["request"] = EnvironBuilder(headers=headers, data=body + b" ").get_request()
    with pytest.raises(WebhookVerificationError):
        exec(compile(example, "docs/api.md", "exec"), given)  # noqa: S102


def written(api: ApiProcess, path: str) -> bool:
    """Whether the timeline ends with the webhook and its answer."""
    last: dict[str, Any] = api.client.get(path).json()["timeline"][-1]
    return (last["event"], last.get("status")) == ("webhook", 200)


def send_batch(http: httpx.Client, url: str, *orders: str, key: str = "") -> str:
    items = [{"data": base64.b64encode(image(order)).decode(), "model_type": "toy"} for order in orders]
    body = {"requests": [*items, {"data": "!!"}], "callback_url": url}
    headers = {"Prefer": "respond-async", "Idempotency-Key": key}
    answer = http.post("/batch_inference", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


def test_the_end_of_a_batch_is_told_once_when_all_of_it_has_ended(api: ApiProcess, receiver: Receiver) -> None:
    batch_id = send_batch(api.client, receiver.url, "sleep 1", "ok", " bad ", "sleep 0.3")
    headers, body = wait_until(lambda: receiver.got[0] if receiver.got else None, 10, what="the webhook") or ({}, b"")
    said = Webhook(SECRET).verify(body, {key.lower(): value for key, value in headers.items()})
    assert (said["type"], headers["webhook-id"]) == ("batch.completed", f"msg_batch_{batch_id}")
    assert said["data"] == api.client.get(f"/batch_inference/{batch_id}").json()
    counts = said["data"]["counts"]
    assert [counts[name] for name in ("total", "succeeded", "failed", "rejected")] == [5, 3, 1, 1]
    again = send(api.client, "ok", receiver.url)  # what comes after it shows that it does not come twice
    wait_until(lambda: len(receiver.got) == 2, 10, what="the webhook of another request")
    assert json.loads(receiver.got[1][1])["data"]["request_id"] == again


def test_a_batch_of_which_nothing_was_accepted_is_told_as_well(api: ApiProcess, receiver: Receiver) -> None:
    send_batch(api.client, receiver.url)
    wait_until(lambda: receiver.got, 10, what="the webhook")
    assert json.loads(receiver.got[0][1])["data"]["counts"]["rejected"] == 1


def test_an_api_that_starts_again_sends_what_the_one_before_it_promised(
    stack: Stack, api: ApiProcess, receiver: Receiver
) -> None:
    batch_id = send_batch(api.client, receiver.url, "sleep 2", "sleep 2")
    wait_until(lambda: not promised(stack, "taken"), 10, what="nothing in the first API's hands")
    api.kill()
    stack.start_api(MODELS=MODELS, WEBHOOK_SECRET=SECRET, WEBHOOK_HOSTS="127.0.0.1")  # and nobody asks it for anything
    wait_until(lambda: receiver.got, TAKEN + 20, what="the webhook of a batch that the first API accepted")
    assert json.loads(receiver.got[0][1])["data"]["batch_id"] == batch_id


def test_a_name_that_leads_inside_is_refused_when_it_is_dialled(stack: Stack, receiver: Receiver) -> None:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    api = stack.start_api(MODELS=MODELS, WEBHOOK_SECRET=SECRET)
    send(api.client, "ok", f"https://localhost:{receiver.server_port}/hook")
    wait_until(lambda: "not a public address" in api.log(), 10, what="the refusal in the API's log")
    assert not receiver.got


def test_a_receiver_that_fails_gets_it_again_under_the_same_id(api: ApiProcess, receiver: Receiver) -> None:
    receiver.statuses = [500]
    request_id = send(api.client, "ok", receiver.url)
    wait_until(lambda: len(receiver.got) == 2, 20, what="the repetition after the first pause")
    first, second = (headers["webhook-id"] for headers, _ in receiver.got)
    assert first == second == f"msg_{request_id}"
    assert json.loads(receiver.got[1][1])["data"]["status"] == "succeeded"


def test_a_replay_is_told_of_no_second_time(stack: Stack, api: ApiProcess, receiver: Receiver) -> None:
    request_id = send(api.client, "ok", receiver.url, key="k1")
    batch_id = send_batch(api.client, receiver.url, "ok", key="k2")
    wait_until(lambda: len(receiver.got) == 2, 10, what="both webhooks")
    for _ in range(3):
        assert send(api.client, "ok", receiver.url, key="k1") == request_id
        assert send_batch(api.client, receiver.url, "ok", key="k2") == batch_id
    wait_until(lambda: not promised(stack), 10, what="an empty outbox")
    again = send(api.client, "ok", receiver.url)  # what comes after the replays shows that nothing came of them
    wait_until(lambda: len(receiver.got) == 3, 10, what="the webhook of another request")
    assert json.loads(receiver.got[2][1])["data"]["request_id"] == again


def promised(stack: Stack, *parts: str) -> int:
    """How many webhooks are due, now or later, or taken; or only one of that."""
    keys = {"due": "api:webhooks", "taken": "api:webhooks:taken"}
    with redis.Redis.from_url(stack.redis_url) as client:
        return sum(int(client.zcard(stack.settings().key_prefix + keys[part])) for part in parts or keys)


def test_a_slow_receiver_gets_each_once(stack: Stack) -> None:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    api = stack.start_api(workers=2, MODELS=MODELS, WEBHOOK_SECRET=SECRET, WEBHOOK_HOSTS="127.0.0.1")
    with serving(seconds=1.2) as slow:
        names = [send(api.client, "ok", slow.url) for _ in range(10)]
        wait_until(lambda: not promised(stack), 40, what="an empty outbox")
        assert Counter(headers["webhook-id"] for headers, _ in slow.got) == dict.fromkeys(
            (f"msg_{name}" for name in names), 1
        )


def test_receivers_that_drip_hold_up_nobody_else(api: ApiProcess, receiver: Receiver) -> None:
    with ExitStack() as servers:
        urls = [servers.enter_context(silent()) for _ in range(6)]
        for _ in range(3):
            for url in urls:
                send(api.client, "ok", url)
        began = time.monotonic()
        send(api.client, "ok", receiver.url)
        wait_until(lambda: receiver.got, 4, what="the webhook to the one that answers")
        assert time.monotonic() - began < 4


@contextmanager
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"


def test_a_receiver_without_an_address_is_tried_again(stack: Stack) -> None:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    api = stack.start_api(MODELS=MODELS, WEBHOOK_SECRET=SECRET)
    send(api.client, "ok", "https://no-such-host.invalid/hook")
    wait_until(lambda: "gaierror" in api.log(), 20, what="the resolver's error in the API's log")
    assert "refused" not in api.log()
    assert promised(stack) == 1


class TestOutbox:
    @pytest.fixture
    def outbox(self, stack: Stack) -> Outbox:
        return Outbox(stack.settings())

    def test_what_is_taken_comes_up_for_nobody_else(self, outbox: Outbox) -> None:
        outbox.expect("r1")
        assert outbox.take() is None, "it is not due yet"
        outbox.ring("r1")
        outbox.listen()
        assert outbox.take() == "r1"
        outbox.expect("r1")  # a replay
        outbox.ring("r1")  # the end, told late
        outbox.listen()
        assert outbox.take() is None
        outbox.done("r1", "the end")
        assert outbox.take() == "r1", "what was promised anew meanwhile is looked at"
        assert outbox.told("r1") == "the end"

    def test_what_is_given_back_comes_up_again(self, outbox: Outbox) -> None:
        outbox.later("r1", 0)
        assert outbox.take() == "r1"
        outbox.later("r1", 0)
        assert outbox.take() == "r1"

    def test_what_its_taker_died_with_comes_up_again(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("api.features.webhooks.outbox.TAKEN", 0.1)
        outbox.later("r1", 0)
        assert outbox.take() == "r1"
        assert wait_until(outbox.take, 5, what="the entry again") == "r1"

    def test_a_promise_made_again_does_not_put_it_off(self, outbox: Outbox) -> None:
        outbox.later("r1", 0)
        outbox.expect("r1")
        assert outbox.take() == "r1"
