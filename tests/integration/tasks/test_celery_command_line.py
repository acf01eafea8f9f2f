"""Celery's own command line on our workers: ``inspect``, ``control``, ``multi``, as docs/operating.md shows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway
from tasks.protocol.requests import State
from tests.integration.tasks.conftest import TOY
from tests.support.processes import ROOT
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Celery = Callable[..., str]


@pytest.fixture
def celery(stack: Stack) -> Celery:
    """Run ``celery ARGUMENTS`` as a person does; what it prints."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "celery", *arguments], cwd=ROOT, env=stack.environ(MODELS=TOY),
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_inspect_answers_for_every_worker(
    toy: Callable[..., WorkerProcess], celery: Celery, send: Callable[..., str], gateway: Gateway
) -> None:
    worker = toy("toy-1")
    assert gateway.wait(send(), 10).state is State.SUCCEEDED
    assert json.loads(celery("-A", "tasks", "inspect", "ping", "--json")) == {worker.node: {"ok": "pong"}}
    (stats,) = json.loads(celery("-A", "tasks", "inspect", "stats", "--json")).values()
    assert (stats["pid"], stats["total"]) == (worker.pid, {"inferlane.infer": 1})
    (queues,) = json.loads(celery("-A", "tasks", "inspect", "active_queues", "--json")).values()
    assert {queue["name"] for queue in queues} >= {"high.toy", "normal", "low"}


def test_control_shuts_one_worker_down(toy: Callable[..., WorkerProcess], stack: Stack) -> None:
    leaver, other = toy("leaver"), toy("other")
    # The order is obeyed before it is answered, so Celery finds that nobody replied: its exit code says nothing.
    command = [sys.executable, "-m", "celery", "-A", "tasks", "control", "-d", leaver.node, "shutdown"]
    subprocess.run(command, cwd=ROOT, env=stack.environ(), capture_output=True, timeout=240, check=False)
    assert leaver.wait(60) == 0
    assert other.alive


def test_multi_starts_workers_and_waits_for_their_end(
    celery: Celery, monitor: Monitor, send: Callable[..., str], gateway: Gateway, tmp_path: Path
) -> None:
    files = [f"--pidfile={tmp_path}/%n.pid", f"--logfile={tmp_path}/%n.log"]
    nodes = ["toy-1", "toy-2"]
    try:
        celery("multi", "start", *nodes, "-A", "tasks", f"--model={TOY}", "-P", "threads", *files)
        wait_until(lambda: len(monitor.workers()) == 2, timeout=60, what="both workers")
        assert {worker["id"].partition("@")[0] for worker in monitor.workers()} == set(nodes)
        assert gateway.wait(send(), 10).state is State.SUCCEEDED
        pids = [int((tmp_path / f"{node}.pid").read_text()) for node in nodes]
        celery("multi", "stopwait", *nodes, files[0])
        wait_until(lambda: not any(map(psutil.pid_exists, pids)), timeout=30, what="no worker left")
        assert monitor.workers() == []
    finally:
        for left in tmp_path.glob("*.pid"):
            os.kill(int(left.read_text()), 9)
