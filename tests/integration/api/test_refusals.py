"""Under overload a refusal costs next to nothing, and every refused caller gets the answer."""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tasks.inspect.monitor import Monitor
from tests.integration.api.conftest import image
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

RAW = {"Content-Type": "image/gif", "Prefer": "respond-async"}
PATH = "/inference?model_type=photo"
ASKING = (
    f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/gif\r\nContent-Length: 50\r\n"
    "Expect: 100-continue\r\nX-Request-ID: mine\r\n\r\n"
)
READ = b"HTTP/1.1 100"


@pytest.fixture
def api(stack: Stack) -> Iterator[ApiProcess]:
    """With a full lane, of which a worker that takes a second for a photo answers one now and then."""
    stack.start_worker("tests.toy:photo", name="photo-1", TOY_SECONDS=1, MAX_BATCH=1)
    api = stack.start_api(MODELS="photo", MAX_QUEUE=20)
    assert api.client.post(PATH, content=image(), headers={"Content-Type": "image/gif"}).status_code == 200
    yield api
    stack.kill()


def post(api: ApiProcess, **options: Any) -> httpx.Response:
    return api.client.post(PATH, content=image(), headers=RAW, **options)


def ask(api: ApiProcess, head: str = ASKING) -> bytes:
    """What the API says to a caller that sends its body only when told to; until there is a whole answer."""
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=10) as line:
        line.sendall(head.encode())
        said = line.recv(100_000)
        while b"}" not in said and not said.startswith(READ):
            said += line.recv(100_000)
        return said


def unread(api: ApiProcess) -> bytes:
    """The answer to a call that is refused without its body."""

    def refused() -> bytes | None:
        post(api)
        said = ask(api)
        return None if said.startswith(READ) else said

    return wait_until(refused, 20) or b""


def test_a_full_lane_refuses_the_next_caller_unread(api: ApiProcess) -> None:
    head, _, body = unread(api).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 503 service unavailable"
    assert {b"x-request-id: mine", b"content-type: application/problem+json"} < set(lines)
    assert any(line.startswith(b"retry-after: ") for line in lines)
    problem = json.loads(body)
    assert (problem["code"], problem["instance"], problem["request_id"]) == ("lane_full", "/inference", "mine")


def test_that_refusal_is_for_the_same_call_only(api: ApiProcess) -> None:
    unread(api)
    other_lane = ASKING.replace("photo", "photo&priority=high")
    in_the_body = ASKING.replace("image/gif", "application/json")
    assert ask(api, other_lane).startswith(READ)
    assert ask(api, in_the_body).startswith(READ)


@pytest.mark.parametrize("by_key", [True, False])
def test_what_was_accepted_before_is_known(api: ApiProcess, by_key: bool) -> None:
    one = {"Idempotency-Key": '"one"'} if by_key else {}
    url = PATH if by_key else f"{PATH}&request_id=one"
    first = api.client.post(url, content=image(), headers=RAW | one)
    assert first.status_code == 202
    unread(api)
    again = api.client.post(url, content=image(), headers=RAW | one)
    assert again.headers["Idempotent-Replayed"] == "true"
    new = dict.fromkeys(one, "two")
    assert api.client.post(url.replace("one", "two"), content=image(), headers=RAW | new).status_code == 503


def test_each_refusal_is_counted(api: ApiProcess, stack: Stack) -> None:
    answers = Counter(post(api).status_code for _ in range(300))
    assert answers.keys() == {202, 503}
    monitor = Monitor(stack.settings())
    wait_until(lambda: monitor.counters()["refused"] == answers[503])
    (used,) = monitor.usage()
    assert (used["model"], used["refused"]) == ("photo", answers[503])


def test_a_lane_with_room_takes_the_next(api: ApiProcess) -> None:
    unread(api)
    waiting = api.client.get("/inference?status=queued").json()["requests"]
    for request in waiting:
        assert api.client.delete(f"/inference/{request['request_id']}").status_code == 200
    wait_until(lambda: post(api).status_code == 202, 2)


@pytest.mark.parametrize("size", [112_000, 8_000_000])
def test_every_refused_caller_gets_the_answer(api: ApiProcess, size: int) -> None:
    """Also one that looks for it only when all is sent; each goes on with its connection."""
    unread(api)
    photo = image().ljust(size, b"\0")
    line = http.client.HTTPConnection("127.0.0.1", int(api.url.rpartition(":")[2]), timeout=20)
    seen: Counter[int] = Counter()
    for _ in range(10):
        seen[api.client.post(PATH, content=photo, headers=RAW).status_code] += 1
        line.request("POST", PATH, photo, RAW)
        with line.getresponse() as answer:
            seen[answer.status] += 1
            assert json.loads(answer.read())
            assert answer.headers["Retry-After"]
    line.close()
    assert seen[503] > 10
    assert seen.keys() <= {202, 503}, "it has room now and then"


@pytest.mark.parametrize(
    ("environ", "headers", "status"),
    [({"API_KEYS": "ann:user:" + "0" * 64}, "X-API-Key: wrong\r\n", 401), ({"RATE_LIMIT": "1/600"}, "", 429)],
)
def test_a_caller_is_refused_unread(stack: Stack, environ: dict[str, str], headers: str, status: int) -> None:
    api = stack.start_api(MODELS="photo", **environ)
    head = ASKING.replace("X-Request-ID", f"{headers}X-Request-ID").replace("image/gif", "application/json")
    for _ in range(3):
        api.client.post(PATH, content=image(), headers=RAW | dict([headers.strip().split(": ")] if headers else []))
    assert ask(api, head).startswith(f"HTTP/1.1 {status}".encode())
