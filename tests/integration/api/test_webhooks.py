"""A webhook of a real request: signed, repeated until it is taken, once the request has ended."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from api.webhooks.outbox import TAKEN
from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()


class Receiver(ThreadingHTTPServer):
    """Keeps what it got; answers with the statuses it was given, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Hook(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(stack: Stack) -> ApiProcess:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    return stack.start_api(MODELS=MODELS, WEBHOOK_SECRET=SECRET, WEBHOOK_HOSTS="127.0.0.1")


def send(http: httpx.Client, order: str, url: str) -> str:
    params = {"model_type": "toy", "callback_url": url}
    headers = {"Content-Type": "image/gif", "Prefer": "respond-async"}
    answer = http.post("/inference", params=params, content=image(order), headers=headers)
    assert answer.status_code == 202, answer.text
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


def written(api: ApiProcess, path: str) -> bool:
    """Whether the timeline ends with the webhook and its answer."""
    last: dict[str, Any] = api.client.get(path).json()["timeline"][-1]
    return (last["event"], last.get("status")) == ("webhook", 200)


def send_batch(http: httpx.Client, url: str, *orders: str) -> str:
    items = [{"data": base64.b64encode(image(order)).decode(), "model_type": "toy"} for order in orders]
    body = {"requests": [*items, {"data": "!!"}], "callback_url": url}
    answer = http.post("/batch_inference", json=body, headers={"Prefer": "respond-async"})
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
    api.kill()
    stack.start_api(MODELS=MODELS, WEBHOOK_SECRET=SECRET, WEBHOOK_HOSTS="127.0.0.1")  # and nobody asks it for anything
    # At once if the first had time to ask for the bell; if it died with the webhook in hand, when that is free again.
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
