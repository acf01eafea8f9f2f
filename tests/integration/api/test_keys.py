"""Keys of callers stay with their callers: a real API at its most talkative writes none of them down."""

from __future__ import annotations

import redis

from api.http import api_keys
from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack

GUESS = "il_somebody-guessed-this-one"


def test_keys_are_in_no_log_and_not_in_redis(stack: Stack, own_redis: RedisServer) -> None:
    user, entry = api_keys.make("ann", "user")
    admin = "il_the-key-of-the-administrator"
    shared = {"MODELS": MODELS, "LOG_LEVEL": "DEBUG", "API_KEYS": entry, "ADMIN_KEY": admin, "RATE_LIMIT": "1000/60"}
    worker = stack.start_worker(TOY, name="toy-1", **shared)
    api = stack.start_api(**shared, ACCESS_LOG=1)
    statuses = set()
    for key in (user, admin, GUESS):
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"Authorization": f"Basic {key}"}):
            for method, path in (("POST", "/inference"), ("GET", "/nope"), ("POST", "/admin/lanes/low/pause")):
                kind = {"Content-Type": "image/gif"}
                answer = api.client.request(method, path, content=image(), headers=headers | kind)
                assert key not in answer.text + str(answer.headers)
                statuses.add(answer.status_code)
    assert statuses >= {200, 401, 403, 404}
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("rdbcompression", "no")  # DUMP would hide a key in what it squeezes
        kept = b"".join(client.dump(name) or b"" for name in client.scan_iter())
    written = api.log(100_000) + worker.log(100_000)
    for key in (user, admin, GUESS):
        assert key not in written
        assert key.encode() not in kept
    assert "POST /inference" in written
