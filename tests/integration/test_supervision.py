"""supervisord as `make start` uses it: dead programs are restarted, stopped ones leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts import probes
from scripts.supervision import ProcessRow, Program, Supervisor
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.stack import Stack
from tests.support.waiting import wait_until

SLEEPER = Program("sleeper", "sleeper", "sleep 600")
# A shell that ignores SIGTERM and has a child: only a kill of the whole group ends both.
STUBBORN = Program("stubborn", "stubborn", "sh -c 'trap \"\" TERM; sleep 600; sleep 600'")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    found = Supervisor(tmp_path)
    yield found
    probes.end_own_processes(tmp_path, grace=0.3)


def launch(supervisor: Supervisor, *wanted: Program) -> None:
    supervisor.write(wanted)
    supervisor.launch({**os.environ, probes.MARK: str(supervisor.folder)})
    wait_until(lambda: all(row.pid for row in supervisor.rows()), what="all programs have a pid")


def row(supervisor: Supervisor, name: str) -> ProcessRow:
    return next(row for row in supervisor.rows() if row.name == name)


def test_a_killed_program_is_started_again(supervisor: Supervisor) -> None:
    launch(supervisor, SLEEPER)
    first = row(supervisor, "sleeper").pid
    os.kill(first, signal.SIGKILL)
    again = wait_until(lambda: (now := row(supervisor, "sleeper").pid) != first and now, what="a new sleeper")
    wait_until(lambda: psutil.Process(again).name() == "sleep", what="the shell becomes the program")


def test_a_new_program_starts_and_a_gone_one_ends_while_the_others_run_on(supervisor: Supervisor) -> None:
    launch(supervisor, SLEEPER, Program("gone", "x", "sleep 600"))
    before, gone = row(supervisor, "sleeper").pid, row(supervisor, "gone").pid
    supervisor.write([SLEEPER, Program("new", "x", "sleep 600")])
    assert supervisor.update() == (["new"], ["gone"])
    assert row(supervisor, "sleeper").pid == before
    assert not psutil.pid_exists(gone)
    assert {item.name for item in supervisor.rows()} == {"sleeper", "new"}


def test_shutdown_leaves_no_process(supervisor: Supervisor) -> None:
    launch(supervisor, SLEEPER)
    assert len(probes.own_processes(supervisor.folder)) == 2  # supervisord and the sleeper
    supervisor.shutdown()
    wait_until(lambda: not probes.own_processes(supervisor.folder), what="everything has ended")
    assert not supervisor.running()


def test_orphans_of_a_killed_supervisor_are_found_and_ended(supervisor: Supervisor) -> None:
    launch(supervisor, SLEEPER, STUBBORN)
    pid = int((supervisor.folder / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not supervisor.running(), what="supervisord is gone")
    # The sleeper, the stubborn shell and its child.
    wait_until(lambda: len(probes.own_processes(supervisor.folder)) == 3, what="three orphans")
    probes.end_own_processes(supervisor.folder, grace=0.3)
    assert probes.own_processes(supervisor.folder) == []


def test_the_log_tail_is_what_the_program_wrote(supervisor: Supervisor) -> None:
    launch(supervisor, Program("talker", "x", "sh -c 'echo one; echo two >&2; sleep 600'"))
    assert wait_until(lambda: supervisor.log_tail("talker").splitlines(), what="two lines")[-1] in {"one", "two"}
    wait_until(lambda: supervisor.log_tail("talker", lines=5).splitlines() == ["one", "two"], what="both lines")


def scripts(stack: Stack, *arguments: str, **environ: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=stack.environ(**environ), capture_output=True, text=True, timeout=60, check=False
    )


def test_a_taken_port_is_one_line_and_exit_code_1(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = scripts(stack, "start", "--without", "worker", API_PORT=port, DASHBOARD_PORT=free_port())
    assert done.returncode == 1
    assert f"port {port} is taken: free it, or set API_PORT" in done.stderr.splitlines()
    assert not probes.own_processes(stack.folder)


def test_a_redis_url_that_leads_to_something_else_is_one_line(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        others = ("worker", "api", "dashboard", "flower")
        without = [part for name in others for part in ("--without", name)]
        done = scripts(stack, "start", *without, REDIS_URL=f"redis://127.0.0.1:{port}/0")
    assert done.returncode == 1
    assert f"nothing answers at REDIS_URL (redis://127.0.0.1:{port}/0): start that Redis" in done.stderr


def test_status_of_a_system_that_does_not_run_says_so(stack: Stack) -> None:
    done = scripts(stack, "status")
    assert (done.returncode, done.stdout) == (1, "Inferlane is not running.\n")


def test_stopping_what_does_not_run_is_no_error(stack: Stack) -> None:
    assert scripts(stack, "stop").returncode == 0


def test_a_wrong_setting_is_one_line(stack: Stack) -> None:
    done = scripts(stack, "status", API_PORT="http")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("API_PORT:")
