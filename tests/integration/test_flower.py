"""Flower as the Procfile and Compose start it: behind a password, read-only, true about workers and lanes."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from common.settings import load_settings
from scripts.flower import USER, credentials
from tasks.control.orders import Controls
from tasks.producer.gateway import Gateway, Submission
from tasks.protocol.envelope import TASK
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

TOY = "tests.toy:toy"
KEY = ("ann", "a-password")
Page = Callable[..., httpx.Response]


@pytest.fixture
def page(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Ask a private Flower for a path: ``page("/api/workers", auth=KEY)``."""
    port = free_port()
    more = getattr(request, "param", {})
    environ = stack.environ(FLOWER_PORT=port, FLOWER_BASIC_AUTH=":".join(KEY), **more)
    process = Process([sys.executable, "-m", "scripts.flower"], name="flower", folder=stack.folder, environ=environ)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:

        def ask(path: str, method: str = "GET", auth: tuple[str, str] | None = KEY) -> httpx.Response:
            return client.request(method, path, auth=auth)

        wait_until(lambda: answers(process, ask), 60, what="Flower answers")
        yield ask
    process.stop()


def answers(process: Process, ask: Page) -> bool:
    process.check_alive()
    try:
        return ask("/healthcheck", auth=None).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def toy(stack: Stack) -> WorkerProcess:
    return stack.start_worker(TOY, name="toy-1", MODELS="toy")


def test_it_shows_nothing_without_the_password(page: Page) -> None:
    for path in ("/", "/workers", "/broker", "/api/workers", "/api/queues/length"):
        assert page(path, auth=None).status_code == 401, path
        assert page(path, auth=("ann", "wrong")).status_code == 401, path
    assert page("/workers").status_code == 200


def test_it_names_workers_and_counts_lanes_and_changes_nothing(page: Page, toy: WorkerProcess, stack: Stack) -> None:
    workers = wait_until(lambda: page("/api/workers?refresh=1").json(), 40, interval=1.0, what="the worker is listed")
    assert set(workers) == {toy.node}
    consumed = {queue["name"] for queue in workers[toy.node]["active_queues"]}
    assert consumed == {"high.toy", "high", "normal.toy", "normal", "low.toy", "low"}
    gateway = Gateway(stack.settings(MODELS="toy"))
    Controls(stack.settings()).pause("low.toy", "ann")
    for _ in range(3):
        gateway.submit(Submission(image=b"ok", model_type="toy", priority="low"))
    lengths = {queue["name"]: queue["messages"] for queue in page("/api/queues/length").json()["active_queues"]}
    assert lengths == dict.fromkeys(consumed, 0) | {"low.toy": 3}
    listed = re.findall(r'<tr id="([^"]+)">', page("/broker").text)
    assert sorted(listed) == sorted(consumed)
    assert page(f"/api/worker/shutdown/{toy.node}", "POST").status_code == 403
    assert toy.alive
    gateway.close()


def test_it_does_not_switch_task_events_on(page: Page, toy: WorkerProcess) -> None:
    wait_until(lambda: page("/api/workers?refresh=1").json(), 40, interval=1.0, what="Flower has found the worker")
    assert "enabled by remote" not in toy.log(200)


@pytest.mark.parametrize("page", [{"FLOWER_EVENTS": "1"}], indirect=True)
def test_with_task_events_it_lists_the_tasks(page: Page, toy: WorkerProcess, stack: Stack) -> None:
    wait_until(lambda: "enabled by remote" in toy.log(200), 40, what="Flower has switched the events on")
    gateway = Gateway(stack.settings(MODELS="toy"))
    gateway.submit(Submission(image=b"ok", model_type="toy"))
    tasks = wait_until(lambda: page("/api/tasks").json(), 20, what="the task is listed")
    assert [(task["name"], task["worker"]) for task in tasks.values()] == [(TASK, toy.node)]
    gateway.close()


def test_without_a_setting_a_password_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    settings = load_settings({"RUN_DIR": str(tmp_path)})
    first = credentials(settings)
    user, _, password = first.partition(":")
    assert (user, len(password)) == (USER, 24)
    assert credentials(settings) == first
    assert stat.S_IMODE((tmp_path / "flower-password").stat().st_mode) == 0o600
