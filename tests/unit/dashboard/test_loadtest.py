"""The load test sends its plan, and counts the answers."""

from __future__ import annotations

import asyncio
import threading
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image

from dashboard import photo
from dashboard.loadtest import BARS, LoadPlan, LoadTest, histogram, single_try_client
from dashboard.runs import AlreadyRunning, Runs
from inferlane import AsyncClient
from tests.support.waiting import wait_until

ANSWER = {
    "request_id": "r", "state": "succeeded", "model_type": "any", "priority": "normal", "model": "m", "weights": "w",
    "worker_id": "w", "predictions": [{"class": "cat", "index": 281, "confidence": 0.9}],
}  # fmt: skip


def client(transport: httpx.MockTransport, timeout: float) -> AsyncClient:
    return single_try_client("http://api.test", transport=transport, timeout=timeout)


def run_against(answer: object, made: LoadPlan) -> LoadTest:
    """A whole run against an API that answers like this."""
    transport = httpx.MockTransport(answer)
    run = LoadTest(lambda: client(transport, 0.5), made)
    run.join(10)
    return run


def plan(requests: int, concurrency: int = 4, models: tuple[str, ...] = ("any",)) -> LoadPlan:
    return LoadPlan(requests, concurrency, models)


def test_every_request_is_sent_once_and_the_models_take_turns() -> None:
    seen: list[tuple[str, bytes]] = []

    def answer(call: httpx.Request) -> httpx.Response:
        seen.append((call.url.params["model_type"], call.content))
        return httpx.Response(200, json=ANSWER)

    run = run_against(answer, plan(30, models=("a", "b")))
    document = run.document()
    assert (document["state"], document["done"], document["ok"]) == ("done", 30, 30)
    assert sorted(model for model, _ in seen) == ["a"] * 15 + ["b"] * 15
    assert len({body for _, body in seen}) == 30
    assert sum(bar["requests"] for bar in document["histogram"]) == 30


def test_errors_are_counted_by_their_code() -> None:
    def answer(call: httpx.Request) -> httpx.Response:
        if call.url.params.get("model_type") == "full":
            return httpx.Response(503, json={"code": "lane_full"}, headers={"Content-Type": "application/problem+json"})
        if call.url.params.get("model_type") in (None, "late"):
            return httpx.Response(202, json=ANSWER | {"state": "queued"})
        raise httpx.ConnectError("no", request=call)

    run = run_against(answer, plan(9, models=("full", "late", "down")))
    assert run.document()["codes"] == {"lane_full": 3, "timeout": 3, "unreachable": 3}
    assert run.document()["ok"] == 0


def test_a_stopped_run_sends_nothing_more_and_only_one_runs_at_a_time() -> None:
    go = threading.Event()
    sent: list[int] = []

    async def answer(_: httpx.Request) -> httpx.Response:
        sent.append(1)
        await asyncio.to_thread(go.wait, 10)
        return httpx.Response(200, json=ANSWER)

    transport, tests = httpx.MockTransport(answer), Runs("load test", 2)
    tests.start(lambda: LoadTest(lambda: client(transport, 40), plan(100, concurrency=2)))
    wait_until(lambda: len(sent) == 2)
    with pytest.raises(AlreadyRunning):
        tests.start(lambda: LoadTest(lambda: client(transport, 40), plan(1)))
    tests.stop()
    go.set()
    wait_until(lambda: tests.documents()[0]["state"] == "stopped")
    assert tests.documents()[0]["done"] == len(sent) == 2


def test_copies_of_the_photo_differ_in_bytes_and_not_in_pixels() -> None:
    first, second = photo.copy("one"), photo.copy("two")
    assert first != second
    pixels = [np.asarray(Image.open(BytesIO(data))) for data in (photo.CAT, first, second)]
    assert np.array_equal(pixels[0], pixels[1])
    assert np.array_equal(pixels[1], pixels[2])


def test_the_histogram_has_an_open_last_bar() -> None:
    counted = histogram([0.01, 0.0101, 99.0])
    assert [row["requests"] for row in counted] == [1, 1] + [0] * (len(BARS) - 2) + [1]
