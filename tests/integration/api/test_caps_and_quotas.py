"""What a caller sees beyond its cap and its quota."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import redis

from api.http import api_keys
from tasks.protocol.keys import Keys
from tests.integration.api.conftest import image
from tests.support.stack import Stack
from tests.support.waiting import wait_until

ADMIN = "il_the-key-of-the-administrator"
DATA = b64encode(image("ok")).decode()
CAP, QUOTA = 3, 5


@pytest.fixture
def callers(stack: Stack) -> Iterator[dict[str, httpx.Client]]:
    """Ann, bob and an admin of an API without workers."""
    made = {name: api_keys.make(name) for name in ("ann", "bob")}
    api = stack.start_api(
        MODELS="toy", ADMIN_KEY=ADMIN, API_KEYS=",".join(entry for _, entry in made.values()),
        MAX_OPEN_PER_OWNER=CAP, MONTHLY_QUOTA=QUOTA,
    )  # fmt: skip
    keys = {name: key for name, (key, _) in made.items()} | {"admin": ADMIN}
    headers = {"Prefer": "respond-async"}
    clients = {
        name: httpx.Client(base_url=api.url, headers=headers | {"Authorization": f"Bearer {key}"})
        for name, key in keys.items()
    }
    yield clients
    for client in clients.values():
        client.close()


def post(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/inference", json={"data": DATA, "model_type": "toy"} | body)


def quota(client: httpx.Client, **query: str) -> Any:
    return client.get("/usage", params=query).json()["quota"]


def test_beyond_the_cap_is_429_and_others_are_served(callers: dict[str, httpx.Client]) -> None:
    ann, bob = callers["ann"], callers["bob"]
    batch = ann.post("/batch_inference", json={"requests": [{"data": DATA, "model_type": "toy"}] * (CAP + 1)}).json()
    assert (batch["counts"]["queued"], batch["counts"]["rejected"]) == (CAP, 1)
    results = ann.get(batch["urls"]["results"]).text.splitlines()
    assert '"code":"too_many_open"' in results[-1]
    refusal = post(ann)
    assert (refusal.status_code, refusal.headers["Content-Type"]) == (429, "application/problem+json")
    assert int(refusal.headers["Retry-After"]) >= 1
    document = refusal.json()
    assert (document["type"], document["retryable"]) == ("/problems/too_many_open", True)
    assert (document["open"], document["limit"]) == (CAP, CAP)
    assert ann.get(document["type"]).json()["status"] == 429
    tensor = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [DATA]}]}
    assert ann.post("/v2/models/toy/infer", json=tensor).status_code == 429
    assert post(bob).status_code == 202
    ann.post(batch["urls"]["cancel"])
    assert post(ann).status_code == 202


def test_beyond_the_quota_is_429_until_the_month_ends(
    callers: dict[str, httpx.Client], stack: Stack, keys: Keys
) -> None:
    ann, admin = callers["ann"], callers["admin"]
    for _ in range(QUOTA):
        assert quota(ann)["left"] > 0
        ann.delete(post(ann).headers["Location"])
    refusal = post(ann)
    document = refusal.json()
    assert (refusal.status_code, document["code"]) == (429, "quota_exceeded")
    assert (document["used"], document["limit"]) == (QUOTA, QUOTA)
    ends = datetime.fromisoformat(document["resets"])
    assert (ends.day, ends.hour) == (1, 0)
    left = (ends - datetime.now(UTC)).total_seconds()
    assert int(refusal.headers["Retry-After"]) == pytest.approx(left, abs=60)
    shown = {"limit": QUOTA, "used": QUOTA, "left": 0, "resets": document["resets"]}
    assert quota(ann) == quota(admin, owner="ann") == shown
    assert quota(admin) is None
    assert quota(callers["bob"])["left"] == QUOTA
    with redis.Redis.from_url(stack.redis_url) as client:
        client.hset(keys.owner_quotas, "ann", QUOTA + 1)
    wait_until(lambda: post(ann).status_code == 202, 2, what="the new quota is effective")
    assert quota(ann) == shown | {"limit": QUOTA + 1, "used": QUOTA + 1}


@pytest.fixture
def keys(stack: Stack) -> Keys:
    return Keys(stack.settings().key_prefix)
