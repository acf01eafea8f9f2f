"""``make start`` and ``make stop`` when something goes wrong: nothing half done stays, and a line says why."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from scripts import probes
from scripts.system import System, run_lock
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.stack import Stack
from tests.support.waiting import wait_until

LIGHT = ("--without", "worker", "--without", "flower", "--without", "dashboard")


class Installation:
    """An Inferlane with an embedded broker in a folder of this test."""

    def __init__(self, folder: Path, **environ: object) -> None:
        ports = {f"{name}_PORT": free_port() for name in ("API", "DASHBOARD", "FLOWER", "REDIS")}
        stack = Stack("", folder, MODELS="efficientnet_lite0", API_PROCESSES=1, **ports, **environ)
        self.environ = stack.environ()
        self.settings = stack.settings()
        self.system = System(self.settings)
        self.folder = folder

    def run(
        self, *words: str, module: str = "scripts", before: Callable[[], object] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *words], cwd=ROOT, env=self.environ, capture_output=True, text=True,
            timeout=120, check=False, preexec_fn=before,
        )  # fmt: skip

    def start(self, *words: str) -> Process:
        """``make start``, under way."""
        command = [sys.executable, "-m", "scripts", "start", *words]
        return Process(command, name="start", folder=self.folder.parent, environ=self.environ)

    def left(self) -> list[psutil.Process]:
        return probes.own_processes(self.folder)

    def broker(self) -> psutil.Process:
        """The server in its folder, however its process is called."""
        return next(process for process in self.left() if "server" in process.name())


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path / "run")
    yield made
    probes.end_own_processes(made.folder, grace=1.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_start_that_is_interrupted_leaves_nothing_running(installation: Installation, number: signal.Signals) -> None:
    start = installation.start(*LIGHT)
    try:
        wait_until(lambda: len(installation.left()) > 2, 60, what="some of it runs")
        start.send(number)
        start.send(number)  # a second Ctrl-C does not keep it from ending what it has started
        assert start.wait(30) == 128 + number
    finally:
        start.kill()
    assert installation.left() == []
    assert "Traceback" not in start.log()


def test_a_second_start_is_refused_in_one_line_and_the_first_goes_on(installation: Installation) -> None:
    first = installation.start(*LIGHT)
    try:
        wait_until((installation.folder / "lock").exists, 30, what="it holds the lock")
        second = installation.run("start", *LIGHT)
        assert second.returncode == 1
        assert re.fullmatch(r"`make start` is under way here \(process \d+\): wait until it ends, or `make stop`\n",
                            second.stderr)  # fmt: skip
        assert first.wait(60) == 0
    finally:
        first.kill()
    assert installation.run("status").returncode == 0


def test_stop_ends_a_start_that_is_under_way(installation: Installation) -> None:
    start = installation.start(*LIGHT)
    try:
        wait_until((installation.folder / "lock").exists, 30, what="it holds the lock")
        assert installation.run("stop").returncode == 0
        assert start.wait(30) == 128 + signal.SIGTERM
    finally:
        start.kill()
    assert installation.left() == []


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    imports = "import os, pathlib; from scripts.system import run_lock"
    script = f"{imports}\nwith run_lock(pathlib.Path({str(tmp_path)!r}), 'start'): os._exit(9)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    with run_lock(tmp_path, "start"):
        pass


def test_start_without_workers_and_flower_waits_for_the_rest_only(installation: Installation) -> None:
    assert installation.run("start", "--without", "worker", "--without", "flower").returncode == 0
    assert [row.name for row in installation.system.rows()] == ["api", "broker", "dashboard"]
    sent = httpx.post(
        f"{installation.settings.base_url}/inference", content=(ROOT / "docs" / "images" / "cat.png").read_bytes(),
        headers={"Prefer": "respond-async", "Content-Type": "image/png"},
    )  # fmt: skip
    assert (sent.status_code, sent.json()["status"]) == (202, "queued")  # and a worker may answer it later
    again = installation.run("start")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "Already running.")


def test_a_process_to_leave_out_must_be_one(installation: Installation) -> None:
    done = installation.run("start", "--without", "workers")
    assert (done.returncode, done.stderr) == (
        1, "nothing here is called workers; there are broker, worker, api, dashboard, flower\n",
    )  # fmt: skip


def test_after_the_death_of_the_supervisor_stop_leaves_nothing_not_even_the_broker(installation: Installation) -> None:
    assert installation.run("start", *LIGHT).returncode == 0
    broker = installation.broker()
    os.kill(int((installation.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not installation.system.supervisor.running(), what="supervisord is gone")
    assert installation.run("stop").returncode == 0
    assert not broker.is_running()
    assert installation.left() == []
    # A dead supervisor's socket and process id are no obstacle.
    assert installation.run("start", *LIGHT).returncode == 0


def test_reset_deletes_under_a_dead_broker_only(installation: Installation) -> None:
    assert installation.run("start", *LIGHT).returncode == 0
    broker = installation.broker()
    os.kill(int((installation.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    done = installation.run("reset")
    assert (done.returncode, broker.is_running(), installation.folder.exists()) == (0, False, False), done.stderr


def test_a_server_whose_folder_was_deleted_is_still_found(installation: Installation) -> None:
    assert installation.run("start", *LIGHT).returncode == 0
    broker = installation.broker()
    os.kill(int((installation.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    subprocess.run(["rm", "-rf", str(installation.folder)], check=True)
    assert broker in installation.left()


@pytest.mark.parametrize("folder", [ROOT, ROOT.parent, Path.home()], ids=["code", "above", "home"])
def test_reset_refuses_a_folder_that_is_not_its_own(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts", "reset"], cwd=ROOT, env=Stack("", folder).environ(HOME=Path.home()),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.partition(":")[0]) == (1, "nothing deleted")
    assert (ROOT / "common/settings.py").exists()


@pytest.mark.parametrize("name", ['50% of %(it)s ;1 #2 o\'clock "ünï"', "x" * 120], ids=["signs", "long"])
def test_a_run_directory_of_any_name(name: str, tmp_path: Path) -> None:
    installation = Installation(tmp_path / name)
    try:
        done = installation.run("start", *LIGHT)
        assert done.returncode == 0, done.stderr
        assert (installation.folder / "logs" / "api.log").exists()
        assert installation.run("stop").returncode == 0
        assert installation.left() == []
    finally:
        probes.end_own_processes(installation.folder, grace=1.0)


def test_a_run_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = Installation(tmp_path / "file").run("start", *LIGHT)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("RUN_DIR: ")


def test_too_few_open_files_are_one_line(installation: Installation) -> None:
    done = installation.run("start", *LIGHT, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))
    assert done.returncode == 1
    assert done.stderr == "a process may open 200 files here, 1024 are needed: raise `ulimit -Hn`\n"


def test_a_low_limit_of_open_files_that_may_be_raised_is_raised(installation: Installation) -> None:
    done = installation.run("start", *LIGHT, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096)))
    assert done.returncode == 0, done.stderr
    api = next(row.pid for row in installation.system.rows() if row.name == "api")
    assert psutil.Process(api).rlimit(psutil.RLIMIT_NOFILE) == (4096, 4096)


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_it_starts_and_is_found_at_other_names_of_loopback(host: str, tmp_path: Path) -> None:
    installation = Installation(tmp_path / "run", API_HOST=host, DASHBOARD_HOST=host)
    written = f"[{host}]" if ":" in host else host
    settings = installation.settings
    try:
        done = installation.run("start", "--without", "worker", "--without", "flower")
        assert done.returncode == 0, done.stderr
        assert f"http://{written}:{settings.api_port}" in done.stdout
        assert f"http://{written}:{settings.dashboard_port}" in done.stdout
        assert installation.run("status", module="inferlane").returncode == 0
        page = httpx.get(f"http://{written}:{settings.dashboard_port}/")
        assert page.status_code == 200
    finally:
        probes.end_own_processes(installation.folder, grace=1.0)


def test_a_proxy_for_the_internet_does_not_come_between(installation: Installation) -> None:
    installation.environ |= {"http_proxy": f"http://127.0.0.1:{free_port()}", "no_proxy": ""}
    done = installation.run("start", *LIGHT)
    assert done.returncode == 0, done.stderr
    assert installation.run("status", module="inferlane").returncode == 0
