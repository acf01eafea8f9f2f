"""The command lines of images, compose file, manifests and editor, run as they stand, outside Docker."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import broker
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.unit.deploy.commands import COMMANDS, distinct, normal

pytestmark = pytest.mark.slow

#: The one model whose weights are always there; lines of other models differ in its name only (a unit test checks).
MODEL = "efficientnet_lite0"
SERVING = [
    *(line for program in ("api", "dashboard", "scripts.flower") for line in distinct(program)),
    *(line for line in distinct("celery") if MODEL in line),
]
HEALTH = {"api": "image api", "dashboard": "compose dashboard", "scripts.flower": "compose flower"}


def health_of(command: Sequence[str]) -> list[tuple[str, ...]]:
    """The health checks that go with a command."""
    return distinct("scripts.alive") if "worker" in command else [normal(COMMANDS[f"{HEALTH[command[0]]} health"])]


def run(words: Sequence[str], environ: dict[str, str], *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, *words[1:]] if words[0] == "python" else [sys.executable, "-m", *words]
    return subprocess.run(program, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def environ(own_redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    """What a container gets, with ports that are free here."""
    with Stack(own_redis.url, tmp_path / "run", MODELS=MODEL) as stack:
        return stack.environ(
            API_PORT=free_port(), DASHBOARD_PORT=free_port(), FLOWER_PORT=free_port(), WEB_CONCURRENCY=1
        )


@pytest.mark.parametrize("command", SERVING, ids=" ".join)
def test_a_command_that_serves_comes_up_healthy_and_ends_when_told(
    command: tuple[str, ...], environ: dict[str, str], tmp_path: Path
) -> None:
    """Its health checks fail before it runs, pass when it does, and SIGTERM is enough to end it."""
    here = {
        ":5555/": f":{environ['FLOWER_PORT']}/",
        ":8050/": f":{environ['DASHBOARD_PORT']}/",
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced
    }
    command = tuple(_replaced(word, here) for word in command)
    checks = [tuple(_replaced(word, here) for word in check) for check in health_of(command)]
    assert [run(check, environ).returncode != 0 for check in checks] == [True] * len(checks)
    process = Process([sys.executable, "-m", *command], name="command", folder=tmp_path, environ=environ)
    try:
        wait_until(
            lambda: healthy(process, checks, environ), 180, interval=0.5, what=f"{shlex.join(command)} is healthy"
        )
    finally:
        ended = process.stop(30)
    assert ended in (0, -15) if "scripts.flower" in command else ended == 0, process.log()


def _replaced(word: str, new: dict[str, str]) -> str:
    return re.sub("|".join(map(re.escape, new)), lambda found: new[found[0]], word)


def healthy(process: Process, checks: Sequence[Sequence[str]], environ: dict[str, str]) -> bool:
    process.check_alive()
    return all(run(check, environ).returncode == 0 for check in checks)


def test_the_editors_broker_is_a_redis_at_the_address_of_the_settings(tmp_path: Path) -> None:
    (command,) = distinct("scripts.broker")
    url = f"redis://127.0.0.1:{free_port()}/0"
    environ = Stack(url, tmp_path).environ()
    process = Process([sys.executable, "-m", *command], name="broker", folder=tmp_path, environ=environ)
    try:
        wait_until(lambda: process.check_alive() or broker.answers(url), 20, what="the broker answers")
    finally:
        assert process.stop() == 0


@pytest.mark.parametrize("command", [*distinct("worker_models"), *distinct("pytest")], ids=" ".join)
def test_a_command_that_ends_ends_well(command: tuple[str, ...], environ: dict[str, str]) -> None:
    done = run(command, environ, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
