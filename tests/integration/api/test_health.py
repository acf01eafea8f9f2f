"""``/health`` tells the truth while requests are refused or fail: a real API, a real Redis and real workers."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
import pytest
import redis

from tests.integration.api.conftest import TOY, image
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

RAW = {"Content-Type": "image/gif"}
ADMIN = {"X-API-Key": "open-sesame"}


def send(api: ApiProcess, order: str = "ok", **headers: str) -> httpx.Response:
    return api.client.post("/inference", params={"model_type": "toy"}, content=image(order), headers=RAW | headers)


def health(api: ApiProcess) -> tuple[int, str, dict[str, str]]:
    """The status code, the status and the findings: code -> detail."""
    answer = api.client.get("/health")
    body: dict[str, Any] = answer.json()
    assert body["reasons"] == [found["detail"] for found in body["findings"]]
    return answer.status_code, body["status"], {found["code"]: found["detail"] for found in body["findings"]}


def healthy(api: ApiProcess) -> bool:
    return health(api) == (200, "healthy", {})


@pytest.mark.parametrize(
    ("setting", "sick", "well", "says"),
    [
        ("maxmemory", 1_000_000, 0, "Redis is full"),
        ("min-replicas-to-write", 1, 0, "Not enough good replicas"),
    ],
)
def test_a_redis_that_takes_no_writes_is_unhealthy(
    stack: Stack, own_redis: RedisServer, setting: str, sick: int, well: int, says: str
) -> None:
    stack.start_worker(TOY, MODELS="toy")
    api = stack.start_api(MODELS="toy")
    wait_until(lambda: healthy(api))
    with redis.Redis.from_url(own_redis.url) as server:
        server.config_set(setting, sick)
        assert send(api).status_code == 503
        code, status, found = health(api)
        assert (code, status, next(iter(found))) == (503, "unhealthy", "redis")
        assert says in found["redis"]
        ready = api.client.get("/readyz")
        assert ready.status_code == 200  # Redis answers
        server.config_set(setting, well)
    wait_until(lambda: healthy(api))
    assert send(api).status_code == 200


def test_full_lanes_are_degraded_until_they_have_room(stack: Stack) -> None:
    stack.start_worker(TOY, MODELS="toy")
    api = stack.start_api(MODELS="toy", MAX_QUEUE=1, ADMIN_KEY=ADMIN["X-API-Key"])
    wait_until(lambda: healthy(api))
    api.client.post("/admin/lanes/normal.toy/pause", headers=ADMIN).raise_for_status()
    assert set(health(api)[2]) == {"paused"}
    answers = [send(api, Prefer="respond-async") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 503]
    assert answers[1].json()["code"] == "lane_full"
    code, status, found = health(api)
    assert (code, status) == (200, "degraded")
    assert found["lane_full"] == "the lanes of toy are full for high, normal, low: requests are refused"
    api.client.post("/admin/lanes/normal.toy/resume", headers=ADMIN).raise_for_status()
    wait_until(lambda: healthy(api))


def test_too_many_bytes_of_images_are_degraded(stack: Stack) -> None:
    api = stack.start_api(MODELS="toy", MAX_QUEUE_BYTES=100)
    answers = [send(api, f"ok {'x' * 30}", Prefer="respond-async") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 503]
    code, status, found = health(api)
    assert (code, status, "images_full" in found) == (200, "degraded", True)
    api.client.delete(f"/inference/{answers[0].json()['request_id']}").raise_for_status()
    assert "images_full" not in health(api)[2]


def test_a_model_that_fails_everything_is_degraded_and_bad_images_are_not_its_fault(stack: Stack) -> None:
    stack.start_worker(TOY, MODELS="toy")
    api = stack.start_api(MODELS="toy")
    wait_until(lambda: healthy(api))
    assert {send(api, " bad").json()["error"]["code"] for _ in range(6)} == {"unsupported_image"}
    assert healthy(api)
    assert {send(api, "error").status_code for _ in range(5)} == {500}
    wait_until(lambda: health(api)[1] == "degraded", what="the worker flushes its statistics")
    code, _, found = health(api)
    assert code == 200
    assert found == {"failing": "toy failed all 5 requests of the last 5 minutes"}
    assert api.client.get("/ops/snapshot?fresh=1").json()["reasons"] == list(found.values())
    assert send(api).status_code == 200
    wait_until(lambda: healthy(api), what="the answer is counted")


def test_the_last_worker_gone_silent_is_told(stack: Stack) -> None:
    worker = stack.start_worker(TOY, MODELS="toy")
    api = stack.start_api(MODELS="toy")
    wait_until(lambda: healthy(api))
    os.kill(worker.guardian, signal.SIGSTOP)
    os.kill(worker.pid, signal.SIGSTOP)
    wait_until(lambda: "silent_worker" in health(api)[2], what="its lease runs out")
    assert set(health(api)[2]) == {"no_worker", "silent_worker"}
    os.kill(worker.pid, signal.SIGCONT)
    os.kill(worker.guardian, signal.SIGCONT)
    wait_until(lambda: healthy(api), 30, what="it renews its lease")
