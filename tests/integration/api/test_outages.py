"""What callers see when Redis is down, and when the API stops."""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack
from tests.support.waiting import wait_until

RAW = {"Content-Type": "image/gif"}


#: Every kind of route that needs Redis.
GETS = (
    "/inference", "/inference/x", "/inference/x/events", "/batch_inference/x", "/workers/status", "/queue/status",
    "/metrics", "/models", "/health", "/readyz", "/dead_letters", "/ops/snapshot", "/v2/health/ready",
)  # fmt: skip
ADMIN = {"Authorization": "Bearer boss"}


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_redis_down_is_503_within_a_second_and_heals_alone(stack: Stack, own_redis: RedisServer, how: str) -> None:
    """Stopped, it refuses connections; silent, it takes them and answers nothing, which costs a timeout."""
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    http = stack.start_api(MODELS=MODELS, ADMIN_KEY="boss", RATE_LIMIT="10000/60").client
    assert http.post("/inference", content=image(), headers=RAW).status_code == 200
    own_redis.stop() if how == "stopped" else own_redis.process.send(signal.SIGSTOP)
    for method, path, more in _calls():
        took, answer = min((_timed(http, method, path, more) for _ in range(2)), key=lambda pair: pair[0])
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), path
        assert took < 1.0, path
    assert http.get("/livez").status_code == 200
    own_redis.start() if how == "stopped" else own_redis.process.send(signal.SIGCONT)
    wait_until(lambda: _answers(http), 20, what="the API answers again")


def _calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "POST", "/inference", {"content": image(), "headers": RAW | ADMIN}
    yield "POST", "/inference", {"content": image(), "headers": RAW | ADMIN | {"Prefer": "respond-async"}}
    files = [("image", ("a.gif", image())), ("image", ("b.gif", image()))]
    yield "POST", "/batch_inference", {"files": files, "headers": ADMIN}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(image()).decode()]}
    yield "POST", "/v2/models/toy/infer", {"json": {"inputs": [tensor]}, "headers": ADMIN}
    yield "DELETE", "/inference/x", {"headers": ADMIN}
    yield "POST", "/admin/lanes/low/pause", {"headers": ADMIN}
    for path in GETS:
        yield "GET", path, {"headers": ADMIN}


def _timed(http: httpx.Client, method: str, path: str, more: dict[str, Any]) -> tuple[float, httpx.Response]:
    began = time.monotonic()
    answer = http.request(method, path, **more)
    return time.monotonic() - began, answer


def _answers(http: httpx.Client) -> bool:
    return http.post("/inference", content=image(), headers=RAW).status_code == 200


def test_sigterm_answers_everyone_who_waits(stack: Stack) -> None:
    stack.start_worker(TOY, name="toy-1", arguments=["-c", "32"], MODELS=MODELS, MAX_BATCH=1)
    api = stack.start_api(MODELS=MODELS)
    with httpx.Client(base_url=api.url, timeout=40) as http, ThreadPoolExecutor(32) as pool:
        jobs = [pool.submit(http.post, "/inference", content=image("sleep 0.1"), headers=RAW) for _ in range(32)]
        wait_until(lambda: stack_total(api.client) >= 32, what="all are accepted")
        api.send(signal.SIGTERM)
        assert [job.result().status_code for job in jobs] == [200] * 32
    assert api.wait(15) == 0


def stack_total(http: httpx.Client) -> int:
    return int(http.get("/metrics").json()["total_requests"])


def test_a_refusal_before_the_body_was_read_leaves_the_connection_usable(stack: Stack) -> None:
    """Unread, the body made the server hang up behind its answer, and one in fifty of the next requests failed."""
    http = stack.start_api(MODELS=MODELS, AUTH="on", ADMIN_KEY="boss").client
    refused = {"X-API-Key": "wrong", **RAW}
    for size in (200, 20_000, 120_000):
        codes = {http.post("/inference", content=bytes(size), headers=refused).status_code for _ in range(200)}
        assert codes <= {401, 429}
    large = http.post("/inference", content=bytes(6 * 1024 * 1024), headers=refused)
    assert large.status_code in {401, 429}
    assert http.get("/livez").status_code == 200
