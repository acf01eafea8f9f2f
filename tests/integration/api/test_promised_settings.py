"""Every setting of the first version of this API under its name of then, by what it does to a real system."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from common.settings import SettingsError, load_settings
from tasks.inspect.monitor import Monitor
from tasks.protocol.keys import Keys
from tests.integration.api.conftest import TOY, image
from tests.support.oracle import ENDED
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

#: Each is another value than the default, so that what is seen below can only come from it.
GIVEN: dict[str, object] = {
    "WORKER_TIMEOUT": 6, "HEALTH_CHECK_INTERVAL": 0.1, "MAX_RETRIES": 1, "RETRY_DELAY": 2, "BATCH_SIZE": 2,
    "QUEUE_SIZE": 20, "BATCH_TIMEOUT": 0.5, "LOAD_BALANCE_STRATEGY": "round_robin", "METRICS_WINDOW": 120,
    "LOG_LEVEL": "DEBUG",
}  # fmt: skip


class System:
    """An API, a worker and a Redis that were given these settings."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings = stack.settings()
        self.monitor = Monitor(self.settings)
        self.worker: WorkerProcess = stack.start_worker(TOY)
        self.http: httpx.Client = stack.start_api().client

    def send(self, order: str = "ok", model: str = "toy", **headers: str) -> dict[str, Any]:
        """The request, looked at when its answer has come."""
        answer = self.http.post(
            "/inference", content=image(order), headers={"Content-Type": "image/gif", **headers},
            params={"model_type": model},
        )  # fmt: skip
        body: dict[str, Any] = answer.json()
        if "instance" in body and answer.status_code != 503:
            body = self.http.get(body["instance"]).json()
        return body

    def heartbeat(self) -> float:
        return float(self.monitor.workers()[0]["last_heartbeat"])

    def metrics(self, **more: object) -> dict[str, Any]:
        """What an API with these settings says."""
        api = self.stack.start_api(**more)
        found: dict[str, Any] = api.client.get("/metrics").json()
        api.stop()
        return found


@pytest.fixture(scope="module")
def system(module_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("settings")
    # Delays without chance, and a model that no worker has.
    with Stack(module_redis.url, folder, MODELS="toy,idle", RETRY_JITTER=0, **GIVEN) as stack:
        yield System(stack)


def test_worker_timeout_is_how_long_a_silent_worker_counts_as_alive(system: System) -> None:
    boot = system.monitor.workers()[0]["boot"]
    with redis.Redis.from_url(system.stack.redis_url) as client:
        assert 4000 < client.pttl(Keys(system.settings.key_prefix).lease(boot)) <= 6000


def test_health_check_interval_is_the_time_between_two_signs_of_life(system: System) -> None:
    first = system.heartbeat()
    second = wait_until(lambda: (now := system.heartbeat()) > first and now)
    assert second - first < 0.4  # the default renews after 0.5 s


def test_max_retries_and_retry_delay_say_how_often_and_when_it_is_tried_again(system: System, tmp_path: Path) -> None:
    request = system.send(f"flaky {tmp_path / 'always'} 9")
    assert (request["state"], request["attempts"], request["retries"]) == ("failed", 2, 1)
    events = [(entry["event"], entry["at"]) for entry in request["timeline"]]
    tried = [float(line.split()[0]) for line in (tmp_path / "always").read_text().splitlines()]
    assert tried[1] - tried[0] >= 2, events


def test_batch_size_and_batch_timeout_say_how_many_go_together_and_how_long_the_first_waits(system: System) -> None:
    began = time.monotonic()
    assert system.send()["status"] == "success"
    assert time.monotonic() - began >= 0.5
    with ThreadPoolExecutor(4) as pool:
        assert [one["status"] for one in pool.map(system.send, ["ok"] * 4)] == ["success"] * 4

    def sizes() -> set[int]:
        return {size for lane in system.monitor.batch_sizes().values() for size in lane}

    wait_until(lambda: len(sizes()) == 2, what="statistics are flushed")
    assert sizes() == {1, 2}


def test_queue_size_bounds_the_lanes(system: System) -> None:
    assert system.http.get("/queue/status").json()["max_size"] == 20
    answers = [system.send(model="idle", Prefer="respond-async") for _ in range(20)]
    accepted = [answer["request_id"] for answer in answers if answer["status"] == "queued"]
    # Normal may have sixteen of them: some belong to high, and one to low.
    assert [answer.get("code") for answer in answers] == [None] * 16 + ["lane_full"] * 4
    for name in accepted:
        system.http.delete(f"/inference/{name}")


def test_load_balance_strategy_says_who_gets_a_request_for_any_model(system: System) -> None:
    assert system.send(model="any")["lane"] == "normal.toy"


def test_metrics_window_is_the_time_that_latencies_are_of(system: System) -> None:
    system.send()
    ended = sum(row[state] for row in system.monitor.ledger().values() for state in ENDED)
    wait_until(lambda: system.monitor.latencies()["total"]["count"] == ended, what="statistics are flushed")
    assert system.metrics()["latency_p50"] > 0
    _age(system, minutes=5)
    windows = {seconds: system.metrics(METRICS_WINDOW=seconds) for seconds in (120, 1200)}
    names = ("avg_latency", "latency_p50", "latency_p95", "latency_p99")
    assert [windows[120][name] for name in names] == [None] * 4
    assert all(windows[1200][name] > 0 for name in names)


def _age(system: System, minutes: int) -> None:
    """Let everything that was counted by the minute have happened so many minutes earlier."""
    prefix = f"{system.settings.key_prefix}minute:"
    with redis.Redis.from_url(system.stack.redis_url) as client:
        for key in client.keys(f"{prefix}*"):
            client.rename(key, f"{prefix}{int(key.decode().rpartition(':')[2]) - minutes}")


def test_log_level_says_what_is_logged(system: System, tmp_path: Path) -> None:
    assert "debug" in system.worker.log(500).lower()
    with Stack(system.stack.redis_url, tmp_path, MODELS="toy", KEY_PREFIX="quiet:", LOG_LEVEL="ERROR") as stack:
        assert "ready after" not in stack.start_worker(TOY).log(500)


@pytest.mark.parametrize("name", GIVEN)
def test_a_value_that_cannot_be_used_ends_the_start_with_one_line(
    name: str, module_redis: RedisServer, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: ") as refused:
        load_settings({name: "nonsense"})
    assert "\n" not in str(refused.value)
