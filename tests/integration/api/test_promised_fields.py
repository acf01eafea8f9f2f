"""Every field that the first version of this API promised, with its true value after a mixed run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

RAW = {"Content-Type": "image/gif"}
OK, RETRIED, BAD = 5, 1, 2


class Run:
    """What was sent, and the API and worker that answered it."""

    def __init__(self, http: httpx.Client, worker: WorkerProcess, folder: Path) -> None:
        self.http, self.worker = http, worker
        self.answers = [self._send(f"sleep 0.{n}") for n in range(1, OK)]
        self.retried = self._send(f"flaky {folder / 'flaky'} 1")
        self.bad = [self._send(" bad ") for _ in range(BAD)]
        files = [("image", ("a.gif", image())), ("image", ("b.gif", image(" bad "))), ("image", ("c.txt", b"no image"))]
        self.batch = http.post("/batch_inference", files=files, data={"model_type": "toy"}).json()
        wait_until(lambda: self.get("/health")["stats"]["requests_success"] == OK + RETRIED)

    def _send(self, order: str) -> httpx.Response:
        return self.http.post("/inference", content=image(order), headers=RAW, params={"model_type": "toy"})

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(path, headers={"Accept": "application/json"}).json()
        return found


@pytest.fixture(scope="module")
def mixed(module_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("mixed")
    with Stack(module_redis.url, folder, MODELS="toy", METRICS_WINDOW=3600) as stack:
        worker = stack.start_worker(TOY, name="toy-1")
        yield Run(stack.start_api(MODELS=MODELS).client, worker, folder)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_inference(mixed: Run) -> None:
    for answer in mixed.answers:
        body = answer.json()
        assert (answer.status_code, body["status"], body["retries"]) == (200, "success", 0)
        assert body["request_id"]
        assert [set(guess) >= {"class", "confidence"} for guess in body["predictions"]] == [True]
        assert body["worker_id"] == mixed.worker.node
        assert 0.1 <= body["processing_time"] < 20
        assert body["latency_ms"] == pytest.approx(1000 * body["processing_time"])
        assert moment(body["timestamp"]).tzinfo is not None
    body = mixed.retried.json()
    assert (body["status"], body["retries"], body["attempts"]) == ("success", 1, 2)


def test_a_failed_request_says_failed(mixed: Run) -> None:
    for answer in mixed.bad:
        assert answer.status_code == 422
        resource = mixed.get(answer.json()["instance"])
        assert (resource["status"], resource["predictions"], resource["retries"]) == ("failed", [], 0)
        assert resource["worker_id"] == mixed.worker.node
        assert resource["latency_ms"] > 0


def test_batch_items(mixed: Run) -> None:
    good, bad, rejected = mixed.batch["results"]
    assert [item["status"] for item in (good, bad, rejected)] == ["success", "failed", "failed"]
    for item in (good, bad):
        assert item["request_id"]
        assert item["worker_id"] == mixed.worker.node
        assert item["latency_ms"] == pytest.approx(1000 * item["processing_time"])
        assert item["retries"] == 0
        assert moment(item["timestamp"])
    assert good["predictions"][0]["confidence"] == 1.0
    assert (rejected["request_id"], rejected["latency_ms"], rejected["timestamp"]) == (None, None, None)


def test_health(mixed: Run) -> None:
    stats = mixed.get("/health")["stats"]
    total = (OK - 1) + RETRIED + BAD + 2
    assert stats["workers_active"] == 1
    assert (stats["requests_total"], stats["requests_success"], stats["requests_failed"]) == (total, 6, BAD + 1)
    took = [answer.json()["processing_time"] for answer in (*mixed.answers, mixed.retried)]
    took += [item["processing_time"] for item in mixed.batch["results"][:2]]
    took += [mixed.get(answer.json()["instance"])["processing_time"] for answer in mixed.bad]
    mean = pytest.approx(sum(took) / len(took), rel=0.01)
    wait_until(lambda: mixed.get("/health")["stats"]["avg_latency"] == mean, what="statistics are flushed")


def test_workers_status(mixed: Run) -> None:
    wait_until(lambda: mixed.get("/workers/status")["total_requests"] == 9)
    body = mixed.get("/workers/status")
    assert body["total_active"] == 1
    (row,) = body["workers"]
    assert (row["id"], row["url"], row["model"], row["status"]) == (mixed.worker.node, "", "toy", "healthy")
    assert 0 <= row["load"] <= 1
    assert row["errors"] == BAD + 1
    assert 0 < row["avg_latency"] < 2
    assert moment(row["last_heartbeat"])


def test_metrics(mixed: Run) -> None:
    wait_until(lambda: mixed.get("/metrics")["latency_p50"], what="statistics are flushed")
    body, health = mixed.get("/metrics"), mixed.get("/health")
    assert {name: body[name] for name in health["stats"]} == health["stats"]
    assert body["queue_size"] == 0
    assert 0 < body["uptime"] < 600
    assert 0 < body["latency_p50"] <= body["latency_p95"] <= body["latency_p99"]
    assert body["latency_p99"] >= max(answer.json()["processing_time"] for answer in mixed.answers)


def test_the_window_of_latencies_is_a_setting(mixed: Run, module_redis: RedisServer, tmp_path: Path) -> None:
    """A window in which nothing has ended has no latency, whatever ended before it."""
    with Stack(module_redis.url, tmp_path, MODELS="toy", KEY_PREFIX="empty:") as stack:
        body = stack.start_api().client.get("/metrics").json()
    names = ("avg_latency", "latency_p50", "latency_p95", "latency_p99")
    assert [body[name] for name in names] == [None] * 4
