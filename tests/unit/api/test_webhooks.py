"""Webhooks: what is signed verifies, and nothing goes where it must not."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks import Webhook, WebhookVerificationError

from api.features.webhooks import receivers, targets, transport
from common.settings import SettingsError
from tests.unit.api.test_inference import BASE64, post, refused

SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()


class Receiver(BaseHTTPRequestHandler):
    """Answers 200, or redirects when the path says so; keeps what it got."""

    got: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, dict(self.headers), body))
        self.send_response(302 if self.path == "/redirect" else 200)
        self.send_header("Location", "/secret")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    Receiver.got.clear()
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_reference_library_verifies_our_signature() -> None:
    body = json.dumps({"type": "inference.succeeded", "data": {"x": "ä"}}, ensure_ascii=False)
    headers = transport.signature(transport.signer(SECRET), "msg_1", int(time.time()), body)
    assert Webhook(SECRET).verify(body, headers)["type"] == "inference.succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + " ", headers)
    old = transport.signature(transport.signer(SECRET), "msg_1", int(time.time()) - 3600, body)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, old)


@pytest.mark.parametrize("text", ["secret", "whsec_!!!", "whsec_" + base64.b64encode(b"short").decode(), "whsec_"])
def test_a_weak_or_malformed_secret_stops_the_start(make_app: Callable[..., Flask], text: str) -> None:
    with pytest.raises(SettingsError, match="WEBHOOK_SECRET") as caught:
        make_app(WEBHOOK_SECRET=text)
    assert text not in str(caught.value) or text in {"secret", "whsec_"}


PRIVATE = [
    "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", ".".join("0000"), "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
]  # fmt: skip
PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"]


def resolver(*addresses: str) -> targets.Resolver:
    return lambda _host, _port: list(addresses)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_resolves_to_a_private_address_is_refused(address: str) -> None:
    with pytest.raises(targets.TargetRefused, match="not a public address"):
        targets.check("https://hooks.example.org/x", (), resolver(address))
    with pytest.raises(targets.TargetRefused, match="not a public address"):
        targets.check("https://hooks.example.org/x", (), resolver("8.8.8.8", address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_dialled_as_it_was_checked(address: str) -> None:
    target = targets.check("https://hooks.example.org:8443/a?b=c", (), resolver(address))
    assert target == targets.Target(True, "hooks.example.org", 8443, "/a?b=c", address)


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://{f'[{address}]' if ':' in address else address}/" for address in PRIVATE),
        "https://2130706433/", "https://0x7f.1/", "https://127.1/", "https://017700000001/", "https://127.0.0.1./",
        "http://hooks.example.org/", "ftp://hooks.example.org/", "file:///etc/passwd", "https:///x", "hooks.example",
        "https://user:pass@hooks.example.org/", "https://hooks.example.org\n/", "https://hooks.example.org/a b",
        "https://hooks.example.org:99999/", "https://[::1/", "https://h\u00f6st.example/", "//hooks.example.org/", "",
    ],
)  # fmt: skip
def test_urls_that_are_wrong_in_themselves_are_refused_before_anything_is_resolved(url: str) -> None:
    with pytest.raises(targets.TargetRefused):
        targets.parse(url, ())


def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(targets.TargetRefused, match="no address"):
        targets.check("https://hooks.example.org/", (), resolver())


def test_an_error_of_the_resolver_may_pass_so_it_is_no_refusal() -> None:
    with pytest.raises(OSError, match=r"resolution|known|associated"):
        targets.check("https://no-such-host.invalid/", ())


def test_localhost_by_name_is_refused_by_the_real_resolver() -> None:
    with pytest.raises(targets.TargetRefused, match="not a public address"):
        targets.check("https://localhost/", ())


def test_a_name_is_resolved_once_so_rebinding_it_changes_nothing(receiver: HTTPServer) -> None:
    answers = iter(["127.0.0.1", "192.0.2.1"])
    exempt = {"rebind.example.org"}
    url = f"http://rebind.example.org:{receiver.server_port}/hook"
    target = targets.check(url, exempt, lambda _host, _port: [next(answers)])
    assert transport.send(target, b"{}", {"webhook-id": "1"}) == 200
    path, headers, body = Receiver.got[0]
    assert (path, body) == ("/hook", b"{}")
    assert headers["Host"] == f"rebind.example.org:{receiver.server_port}"
    assert next(answers) == "192.0.2.1", "the second answer of the resolver was never asked for"


#: What a server drips: the beginning of an answer, or of a TLS record that is never whole.
DRIPS = {False: b"HTTP/1.1 200 OK\r\nX-Header: " + b"x" * 1000, True: b"\x16\x03\x03\x3f\xff" + bytes(1000)}


@pytest.mark.parametrize("secure", [False, True])
def test_a_receiver_that_drips_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    monkeypatch.setattr(transport, "TOTAL", 0.5)
    with dripping(DRIPS[secure]) as port:
        target = targets.Target(secure, "localhost", port, "/", "127.0.0.1")
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"within 0\.5 s"):
            transport.send(target, b"{}", {})
        assert time.monotonic() - began < 3


@contextmanager
def dripping(data: bytes) -> Iterator[int]:
    """A server on the port it yields that sends a byte of ``data`` every twentieth of a second to who connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                for byte in data:
                    connection.send(bytes([byte]))
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


class TestReceivers:
    def test_one_that_has_not_answered_gets_one_at_a_time(self) -> None:
        found = receivers.Receivers()
        assert found.enter("a") == 0
        assert found.enter("a") > 0
        assert found.enter("b") == 0

    @pytest.mark.parametrize(("seconds", "most"), [(0.01, receivers.TO_QUICK), (4.0, receivers.TO_SLOW)])
    def test_how_many_it_gets_depends_on_its_last_answer(self, seconds: float, most: int) -> None:
        found = receivers.Receivers()
        found.enter("a")
        found.leave("a", seconds)
        assert [found.enter("a") == 0 for _ in range(most + 1)] == [True] * most + [False]

    def test_slow_ones_leave_threads_for_the_quick(self) -> None:
        found = receivers.Receivers()
        found.enter("quick")
        found.leave("quick", 0.01)
        entered = [found.enter(f"slow-{number}") == 0 for number in range(receivers.MOST)]
        assert sum(entered) == receivers.MOST_SLOW
        assert found.enter("quick") == 0

    def test_what_is_put_off_comes_up_one_after_the_other_and_not_too_late(self) -> None:
        found = receivers.Receivers(lambda: 0.0)
        found.enter("a")
        found.leave("a", 4.0)
        waits = [found.enter("a") for _ in range(100)][receivers.TO_SLOW :]
        assert waits[:3] == [2.0, 4.0, 6.0]
        assert max(waits) == receivers.LONGEST

    def test_idle_ones_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(receivers, "KEPT", 3)
        found = receivers.Receivers()
        found.enter("busy")
        for number in range(20):
            found.enter(f"{number}")
            found.leave(f"{number}", 0.1)
        assert len(found._known) <= 4
        found.leave("busy", 0.1)


def test_a_redirect_is_not_followed(receiver: HTTPServer) -> None:
    target = targets.check(f"http://127.0.0.1:{receiver.server_port}/redirect", {"127.0.0.1"})
    assert transport.send(target, b"{}", {}) == 302
    assert [path for path, _, _ in Receiver.got] == ["/redirect"]


@pytest.mark.parametrize("url", ["http://example.org/", "https://127.0.0.1/", "https://localhost:1/x y", "nonsense"])
def test_a_wrong_url_is_refused_with_the_request(make_app: Callable[..., Flask], queue: Any, url: str) -> None:
    client = make_app(WEBHOOK_SECRET=SECRET).test_client()
    problem = refused(post(client, {"callback_url": url}), 422, "invalid_parameters")
    assert problem["errors"][0]["name"] == "callback_url"
    assert not queue.submitted


@pytest.mark.parametrize("url", ["http://example.org/", "https://127.0.0.1/", "https://10.0.0.1/", "nonsense"])
def test_a_wrong_url_is_refused_with_the_batch(make_app: Callable[..., Flask], queue: Any, url: str) -> None:
    client = make_app(WEBHOOK_SECRET=SECRET).test_client()
    body = {"requests": [{"data": BASE64, "model_type": "answers"}], "callback_url": url}
    problem = refused(client.post("/batch_inference", json=body), 422, "invalid_parameters")
    assert problem["errors"][0]["name"] == "callback_url"
    assert not queue.submitted


def test_a_batch_cannot_be_told_of_where_webhooks_are_off(client: FlaskClient, queue: Any) -> None:
    body = {"requests": [{"data": BASE64, "model_type": "answers"}], "callback_url": "https://hooks.example.org/"}
    problem = refused(client.post("/batch_inference", json=body), 422, "invalid_parameters")
    assert "switched off" in problem["detail"]
    assert not queue.submitted
