"""What callers see when Redis goes away, and when the API is told to stop."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack
from tests.support.waiting import wait_until

RAW = {"Content-Type": "image/gif"}


def test_redis_down_is_503_within_a_second_and_heals_alone(stack: Stack, own_redis: RedisServer) -> None:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    http = stack.start_api(MODELS=MODELS).client
    assert http.post("/inference", content=image(), headers=RAW).status_code == 200
    own_redis.stop()
    for path in ("/inference", "/batch_inference"):
        began = time.monotonic()
        answer = http.post(path, **_body(path))
        assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert time.monotonic() - began < 1.5
    assert http.get("/livez").status_code == 200
    assert http.get("/readyz").status_code == 503
    own_redis.start()
    wait_until(lambda: _answers(http), 20, what="the API answers again")


def _body(path: str) -> dict[str, object]:
    if path == "/inference":
        return {"content": image(), "headers": RAW}
    return {"files": [("image", ("a.gif", image())), ("image", ("b.gif", image()))]}


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
