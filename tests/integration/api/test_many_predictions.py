"""A thousand predictions of a request: all where one asks for that request, five in lists, never all in memory."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from api.features.batches import Batches, Member, StoredBatch
from tasks.protocol.keys import Keys
from tasks.protocol.requests import LISTED
from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.stack import ApiProcess, Stack

RAW = {"Content-Type": "image/gif"}
WISH = {"model_type": "toy", "top_k": "1000"}


def test_lists_show_five_and_everything_else_all(http: httpx.Client) -> None:
    answer = http.post("/inference", content=image("many"), headers=RAW, params=WISH).json()
    assert [prediction["index"] for prediction in answer["predictions"]] == list(range(1000))
    resource = http.get(f"/inference/{answer['request_id']}").json()
    assert resource["predictions"] == answer["predictions"]
    listed = http.get("/inference", params={"request_id": answer["request_id"]}).json()["requests"][0]
    assert listed["predictions"] == answer["predictions"][:LISTED]
    assert {**listed, "predictions": None} == {**resource, "predictions": None}


def test_a_batch_has_all_predictions_of_every_item_in_order(http: httpx.Client) -> None:
    """More items than are read at a time, one of them bad, in the answer and in the results."""
    images = [image("many")] * 20 + [b"no image"] + [image("ok")] * 20
    items = [{"data": b64encode(data).decode(), "custom_id": str(place)} for place, data in enumerate(images)]
    answer = http.post("/batch_inference", json={"model_type": "toy", "top_k": 1000, "requests": items}).json()
    assert [item["custom_id"] for item in answer["results"]] == [str(place) for place in range(41)]
    assert [len(item["predictions"]) for item in answer["results"]] == [1000] * 20 + [0] + [1] * 20
    lines = http.get(f"{answer['urls']['self']}/results").text.splitlines()
    assert [json.loads(line)["predictions"] for line in lines] == [item["predictions"] for item in answer["results"]]


@pytest.fixture
def crowded(stack: Stack) -> ApiProcess:
    """An API whose Redis holds 500 answers of a thousand predictions each, and the batch ``large`` of 256 of them."""
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS)
    api = stack.start_api(workers=1, MODELS=MODELS)
    first = api.client.post("/inference", content=image("many"), headers=RAW, params=WISH).json()["request_id"]
    ids = [f"copy-{place}" for place in range(500)]
    keys = Keys(stack.settings().key_prefix)
    with redis.Redis.from_url(stack.redis_url) as database:
        record = database.hgetall(keys.request(first))
        for name in ids:
            database.hset(keys.request(name), mapping=record)
        database.zadd(keys.recent, dict.fromkeys(ids, float(record[b"created"])))
    members = [Member(index, None, name) for index, name in enumerate(ids[:256])]
    Batches(stack.settings()).save("large", StoredBatch(time.time(), members))
    return api


def peak(api: ApiProcess) -> int:
    """The most memory that a process of the API has had, in bytes."""
    children = psutil.Process(api.pid).children(recursive=True)
    status = [Path(f"/proc/{child.pid}/status").read_text() for child in children]
    return max(int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) * 1024 for text in status)  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "least"), [("/inference?limit=500", 500 * LISTED), ("/batch_inference/large/results", 256 * 1000)]
)
def test_callers_at_once_cost_little_memory(crowded: ApiProcess, path: str, least: int) -> None:
    """Eight at a time took 780 MB while each had all predictions as objects."""
    crowded.client.get("/inference?limit=1")
    before = peak(crowded)
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: httpx.get(crowded.url + path, timeout=60), range(8)))
    assert [answer.text.count('"confidence"') for answer in answers] == [least] * 8
    assert peak(crowded) - before < 150 * 1024 * 1024
