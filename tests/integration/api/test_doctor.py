"""``GET /admin/doctor`` on a real Redis and a real worker: it finds what was really set wrongly."""

from __future__ import annotations

from typing import Any

import redis

from tests.integration.api.conftest import MODELS, TOY
from tests.support.redis_server import RedisServer
from tests.support.stack import ApiProcess, Stack

KEY = {"Authorization": "Bearer boss"}


def asked(api: ApiProcess) -> dict[str, Any]:
    answer = api.client.get("/admin/doctor", headers=KEY)
    assert answer.status_code == 200, answer.text
    return {check["name"]: check for check in answer.json()["checks"]}


def test_it_sees_how_redis_and_workers_are_set_up(stack: Stack, own_redis: RedisServer) -> None:
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS, INTRA_OP_THREADS=999)
    api = stack.start_api(MODELS=MODELS, ADMIN_KEY="boss")
    checks = asked(api)
    well = {name for name, check in checks.items() if check["ok"]}
    assert well >= {"redis", "eviction", "persistence", "fsync", "clock: API", "clock: workers", "versions", "settings"}
    assert checks["threads"]["ok"] is False
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000)
    assert {name for name in ("eviction", "persistence", "memory") if asked(api)[name]["ok"]} == set()


def test_it_answers_when_redis_is_gone(stack: Stack, own_redis: RedisServer) -> None:
    api = stack.start_api(MODELS=MODELS, ADMIN_KEY="boss")
    own_redis.kill()
    checks = asked(api)
    assert (checks["redis"]["ok"], checks["memory"]["ok"], checks["timeouts"]["ok"]) == (False, None, True)
