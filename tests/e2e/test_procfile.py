"""The whole system as a person starts it: the real Procfile, a real model with real weights, a photo of a cat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from common.settings import Settings
from scripts import probes
from scripts.supervision import ProcessRow
from scripts.system import System
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.stack import Stack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

MODEL = "efficientnet_lite0"
WORKER = f"worker-{MODEL}-1"
ADMIN_KEY = "the-key-of-whoever-scales-from-the-page"


class Installation:
    """One running Inferlane and the commands a person gives it."""

    def __init__(self, folder: Path) -> None:
        ports = {f"{name}_PORT": free_port() for name in ("API", "DASHBOARD", "FLOWER")}
        stack = Stack("", folder, MODELS=MODEL, ADMIN_KEY=ADMIN_KEY, **ports)
        self.environ: dict[str, str] = stack.environ()
        self.settings: Settings = stack.settings()
        self.folder = folder

    def run(self, *command: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run ``python COMMAND...`` in its environment; raise with the output when it fails."""
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def rows(self) -> dict[str, ProcessRow]:
        """Its processes by name."""
        return {row.name: row for row in System(self.settings).rows()}

    def workers(self) -> set[str]:
        """The workers its API knows to live."""
        return probes.workers_seen(self.settings)


@pytest.fixture(scope="module")
def inferlane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    found = Installation(tmp_path_factory.mktemp("installation"))
    found.run("-m", "scripts", "start")
    yield found
    probes.end_own_processes(found.folder)


def test_start_returns_when_every_page_answers(inferlane: Installation) -> None:
    running = inferlane.rows()
    assert {"broker", WORKER, "api", "flower"} <= set(running)
    for listener in probes.listeners(inferlane.settings):
        if listener.name in running:
            assert listener.problem() == ""
    inferlane.run("-m", "inferlane", "status")


def test_the_photo_of_a_cat_is_a_cat(inferlane: Installation) -> None:
    shown = inferlane.run("-m", "scripts.demo").stdout
    assert "cat" in shown.splitlines()[2]
    assert "random" not in shown


def test_a_second_start_says_that_it_runs_and_changes_nothing(inferlane: Installation) -> None:
    before = {name: row.pid for name, row in inferlane.rows().items()}
    assert "Already running." in inferlane.run("-m", "scripts", "start").stdout
    told = json.loads(inferlane.run("-m", "inferlane", "start", "--json").stdout)
    assert told["urls"]["docs"] == f"{inferlane.settings.base_url}/docs"
    assert {name: row.pid for name, row in inferlane.rows().items()} == before


@pytest.mark.chaos
@pytest.mark.parametrize("name", [WORKER, "api", "broker"])
def test_a_killed_process_comes_back_and_the_cat_is_answered_again(inferlane: Installation, name: str) -> None:
    killed = inferlane.rows()[name].pid
    os.kill(killed, signal.SIGKILL)

    def respawned() -> bool:
        row = inferlane.rows()[name]
        return row.state == "RUNNING" and row.pid != killed

    wait_until(respawned, timeout=30, what=f"a new {name}")
    ready = probes.listeners(inferlane.settings)[0]
    wait_until(lambda: not ready.problem(), timeout=30, what="the API is ready again")
    inferlane.run("-m", "scripts.demo")


def test_scaling_adds_workers_and_takes_them_away_while_the_first_runs_on(inferlane: Installation) -> None:
    first = inferlane.rows()[WORKER].pid
    told = inferlane.run("-m", "inferlane", "scale", f"{MODEL}=2", "--json").stdout
    assert json.loads(told) == {"started": [f"worker-{MODEL}-2"], "stopped": []}
    assert inferlane.workers() == {f"{MODEL}-1", f"{MODEL}-2"}
    inferlane.run("-m", "scripts", "scale", f"{MODEL}=1")
    wait_until(lambda: inferlane.workers() == {f"{MODEL}-1"}, what="one worker")
    assert inferlane.rows()[WORKER].pid == first


def test_the_dashboard_scales_too_and_its_activity_says_who(inferlane: Installation) -> None:
    first = inferlane.rows()[WORKER].pid
    url = f"http://127.0.0.1:{inferlane.settings.dashboard_port}/ui/"
    with httpx.Client(base_url=url, headers={"X-Inferlane-Ui": "1"}, timeout=30) as page:
        order = {"verb": "scale", "model": MODEL, "workers": 2}
        assert page.post("actions", json=order).status_code == 401
        assert page.post("login", json={"key": ADMIN_KEY}).status_code == 200

        def told() -> tuple[int, int]:
            """Live workers, and those that are to run here."""
            (row,) = (row for row in page.get("snapshot").json()["view"]["models"] if row["name"] == MODEL)
            return row["workers"], row["here"]

        assert told() == (1, 1)
        for number in (2, 1):
            again = {**order, "workers": number}
            assert page.post("actions", json=again).status_code == 200
            wait_until(lambda number=number: told() == (number, number), 60, what=f"{number} workers")  # type: ignore[misc]
        assert page.post("actions", json={**order, "model": "resnet18"}).status_code == 422
        log = [line["what"] for line in page.get("snapshot").json()["view"]["activity"]]
    assert f"admin scaled {MODEL} to 2 workers" in log
    assert inferlane.rows()[WORKER].pid == first


def test_no_process_was_refused_a_command_and_no_file_is_for_others(inferlane: Installation) -> None:
    with redis.Redis.from_url(inferlane.settings.redis_url) as client:
        assert client.info("stats").get("acl_access_denied_cmd", 0) == 0
    files = [item for item in inferlane.folder.rglob("*") if item.lstat().st_mode & 0o077]
    assert [str(item) for item in files] == []


def test_stop_ends_every_process_and_frees_every_port(inferlane: Installation) -> None:
    assert len(probes.own_processes(inferlane.folder)) >= 5
    assert json.loads(inferlane.run("-m", "inferlane", "stop", "--json", timeout=120).stdout) == {"stopped": True}
    assert probes.own_processes(inferlane.folder) == []
    assert probes.taken_ports(inferlane.settings, {"api", "dashboard", "flower", "broker"}) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(inferlane.settings.base_url)
