"""``monitor`` draws what is there, and goes on looking when nothing is."""

from __future__ import annotations

from inferlane.console import Exit
from tests.integration.client.test_command_line import run
from tests.support.ports import free_port
from tests.support.stack import ApiProcess, WorkerProcess


def test_it_shows_workers_and_lanes(toy_api: ApiProcess, toy_worker: WorkerProcess) -> None:
    done = run(toy_api.url, "monitor", "--times", "2", "--every", "0.1")
    assert done.returncode == Exit.OK, done.stderr
    assert "toy-1" in done.stdout
    assert "waiting" in done.stdout


def test_it_says_that_nobody_answers() -> None:
    done = run(f"http://127.0.0.1:{free_port()}", "monitor", "--times", "2", "--every", "0.1")
    assert done.returncode == Exit.UNREACHABLE
    assert "Traceback" not in done.stderr
    assert "127.0.0.1" in done.stdout


def test_it_is_not_for_programs(toy_api: ApiProcess) -> None:
    assert run(toy_api.url, "monitor", "--json", "--times", "1").returncode == Exit.USAGE
