"""Health, workers, lanes, metrics, models, and the errors every path shares."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from api.services import Services
from common.settings import Settings
from tests.unit.api.fakes import MODELS, FakeQueue, lane_row, worker_row
from tests.unit.api.test_inference import refused


def everyone(**changes: Any) -> list[dict[str, Any]]:
    return [worker_row(f"{name}-1@host", name, **changes) for name in MODELS]


def test_healthy_when_every_model_is_served(client: FlaskClient, queue: FakeQueue) -> None:
    queue.rows = everyone()
    response = client.get("/health")
    body = response.get_json()
    assert (response.status_code, body["status"], body["reasons"]) == (200, "healthy", [])
    assert (body["total_requests"], body["successful_requests"], body["queue_size"]) == (18, 8, 4)
    assert body["workers"]["total"] == 5


@pytest.mark.parametrize(
    ("lanes", "reason"),
    [
        ([lane_row("low", paused=True)], "lane low is paused"),
        ([lane_row("normal.fails", oldest_age=42.4)], "lane normal.fails is 42 s behind"),
    ],
)
def test_degraded_says_why(client: FlaskClient, queue: FakeQueue, lanes: list[dict[str, Any]], reason: str) -> None:
    queue.rows, queue.lane_rows = everyone(), lanes
    body = client.get("/health").get_json()
    assert (body["status"], body["reasons"]) == ("degraded", [reason])


def test_degraded_names_the_models_nobody_serves(client: FlaskClient) -> None:
    assert "no worker serves sleeps" in client.get("/health").get_json()["reasons"]


def test_without_a_worker_that_takes_work_it_is_degraded_and_ready_to_accept(
    client: FlaskClient, queue: FakeQueue
) -> None:
    queue.rows = everyone(state="draining")
    response = client.get("/health")
    assert (response.status_code, response.get_json()["status"]) == (200, "degraded")
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert [(check["name"], check["ok"]) for check in ready.get_json()["checks"]] == [("broker", True)]


def test_while_redis_takes_no_writes_it_is_unhealthy_though_it_answers(client: FlaskClient, queue: FakeQueue) -> None:
    queue.rows, queue.no_writes = everyone(), "Redis is full"
    response = client.get("/health")
    body = response.get_json()
    assert (response.status_code, body["status"], body["broker"]) == (503, "unhealthy", "up")
    assert body["reasons"] == ["nothing is accepted: Redis is full"]
    assert (body["workers"]["total"], response.headers["Retry-After"]) == (5, "1")
    assert client.get("/readyz").status_code == 200


def test_with_redis_down_only_livez_is_well(client: FlaskClient, queue: FakeQueue) -> None:
    queue.down = True
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").get_json()["checks"][0]["detail"].startswith("Redis does not answer")
    health = client.get("/health")
    assert (health.status_code, health.get_json()["broker"]) == (503, "down")
    for path in ("/workers/status", "/queue/status", "/metrics", "/metrics/prometheus", "/models", "/inference"):
        refused(client.get(path), 503, "broker_unavailable")


def test_workers_have_the_fields_of_old_callers(client: FlaskClient, queue: FakeQueue) -> None:
    queue.rows = [*everyone(), worker_row("late@host", "answers", state="draining")]
    body = client.get("/workers/status").get_json()
    row = body["workers"][0]
    assert (row["id"], row["url"], row["model"], row["status"], row["load"]) == (
        "answers-1@host",
        "",
        "answers",
        "healthy",
        0,
    )
    assert row["last_heartbeat"] == "2027-01-15T08:00:00.000Z"
    assert (body["total_workers"], body["healthy_workers"]) == (6, 5)


def test_a_silent_worker_is_unhealthy_until_its_requests_are_rescued(client: FlaskClient, queue: FakeQueue) -> None:
    queue.rows, queue.silent_rows = everyone(), [worker_row("mute@host", "answers", in_flight=99, failed=2)]
    body = client.get("/workers/status").get_json()
    row = body["workers"][-1]
    assert (row["id"], row["status"], row["state"], row["load"]) == ("mute@host", "unhealthy", "silent", 1.0)
    assert (row["errors"], row["avg_latency"]) == (2, 0.02)
    assert (body["total_active"], body["total_workers"]) == (5, 5)
    assert body["total_requests"] == 5 * (7 + 1) + 7 + 2


def test_queue_has_the_fields_of_old_callers_and_every_lane(client: FlaskClient) -> None:
    body = client.get("/queue/status").get_json()
    assert [body[name] for name in ("size", "high_priority", "normal_priority", "low_priority")] == [4, 1, 3, 0]
    assert body["max_size"] == 10_000
    assert [lane["lane"] for lane in body["lanes"]] == ["normal", "high.answers"]


@pytest.mark.parametrize("accept", [None, "application/json", "*/*", "image/png"])
def test_metrics_are_json_unless_text_is_asked_for(client: FlaskClient, accept: str | None) -> None:
    response = client.get("/metrics", headers={"Accept": accept} if accept else {})
    body = response.get_json()
    assert (body["total_requests"], body["failed_requests"], body["success_rate"]) == (18, 2, 0.8)
    assert body["counters"] == {"retried": 2, "rescued": 1}


@pytest.mark.parametrize("path", ["/metrics", "/metrics/prometheus"])
def test_prometheus_text_parses_and_tells_the_same(client: FlaskClient, path: str) -> None:
    response = client.get(path, headers={"Accept": "text/plain"})
    assert response.mimetype == "text/plain"
    samples = [s for family in text_string_to_metric_families(response.text) for s in family.samples]
    found = {(s.name, *sorted(s.labels.items())): s.value for s in samples}
    assert found["inferlane_requests_total", ("model", "answers"), ("priority", "high"), ("state", "succeeded")] == 4
    assert found["inferlane_lane_depth", ("model", "any"), ("priority", "normal")] == 3
    assert found["inferlane_retried_total",] == 2
    labels = (("model", "any"), ("priority", "normal"), ("stage", "total"))
    assert found["inferlane_stage_seconds_count", *labels] == 4
    assert found["inferlane_stage_seconds_sum", *labels] == 0.5
    assert found["inferlane_stage_seconds_bucket", ("le", "0.004"), *labels] == 3


def test_openmetrics_parses(client: FlaskClient) -> None:
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.mimetype == "application/openmetrics-text"
    assert len(list(openmetrics(response.text))) > 5


def test_models_tell_what_is_served(client: FlaskClient, queue: FakeQueue) -> None:
    queue.rows = [worker_row("r@host", "resnet18", weights="torchvision:X"), worker_row("t@host", "mine")]
    rows = {row["name"]: row for row in client.get("/models").get_json()["models"]}
    assert rows["resnet18"]["labels"] == 1000
    assert rows["resnet18"]["weights"] == ["torchvision:X"]
    assert (rows["mine"]["live_workers"], rows["mine"]["version"]) == (1, None)
    assert (rows["sleeps"]["available"], rows["sleeps"]["live_workers"]) == (False, 0)


def test_unknown_paths_and_methods_are_problems(client: FlaskClient) -> None:
    refused(client.get("/nope"), 404, "not_found")
    response = client.put("/inference")
    refused(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_every_problem_type_is_explained_where_its_type_points(client: FlaskClient) -> None:
    assert client.get("/problems/lane_full").get_json()["status"] == 503
    refused(client.get("/problems/nope"), 404, "not_found")


def test_an_error_of_ours_is_a_problem_without_details(app: Flask, queue: FakeQueue, monkeypatch: Any) -> None:
    app.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)
    monkeypatch.setattr(queue, "lanes", lambda: 1 / 0)
    problem = refused(app.test_client().get("/queue/status"), 500, "internal_error")
    assert "division" not in str(problem)


def test_a_service_is_made_once_at_its_first_use_and_closed_at_the_end(settings: Settings, monkeypatch: Any) -> None:
    class Pool:
        def __init__(self, settings: Settings) -> None:
            made.append(settings)

        def close(self) -> None: ...

    made: list[Settings] = []
    at_exit: list[Any] = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    services = Services(settings)
    assert not made
    assert services.get(Pool) is services.get(Pool)
    assert made == [services.settings]
    assert at_exit == [services.get(Pool).close]


def test_the_api_process_imports_no_model_runtime_and_no_tracing(settings: Settings) -> None:
    code = (
        "import resource, sys; from api.app import create_app; create_app();"
        "heavy = {'torch', 'torchvision', 'onnxruntime', 'PIL', 'numpy', 'tasks.producer.tracing'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
