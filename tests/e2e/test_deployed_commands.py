"""The command lines of images, compose file, manifests and editor, run outside Docker with the files that they have."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from scripts import broker
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.unit.deploy.commands import containers, distinct
from tests.unit.deploy.files import image_tree

pytestmark = pytest.mark.slow

#: The one model whose weights are always there; lines of other models differ in its name only (a unit test checks).
MODEL = "efficientnet_lite0"
#: Where the program is in an image, and here.
BIN = Path(sys.executable).parent
CONTAINERS = {
    name: item for name, item in containers().items() if "--model" not in item.command or MODEL in item.command
}

#: What differs here from a container: where Redis, the models and the ports are, and that nobody else may come in.
HERE = {
    "REDIS_URL", "RUN_DIR", "MODEL_CACHE_DIR", "WEIGHTS_DIR", "API_HOST", "API_PORT", "DASHBOARD_HOST",
    "DASHBOARD_PORT", "FLOWER_PORT", "DASHBOARD_API_URL", "API_URL",
}  # fmt: skip


def run(
    words: Sequence[str], environ: dict[str, str], *, folder: Path = ROOT, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    program = [str(BIN / words[0]), *words[1:]]
    return subprocess.run(
        program, cwd=folder, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture
def environ(own_redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    """What a container gets, with ports that are free here and the models of this machine."""
    with Stack(own_redis.url, tmp_path / "run", MODELS=MODEL) as stack:
        places = {"MODEL_CACHE_DIR": ROOT / ".cache" / "models"}
        ports = {name: free_port() for name in ("API_PORT", "DASHBOARD_PORT", "FLOWER_PORT")}
        return stack.environ(**places, **ports, API_PROCESSES=1)


def test_every_image_of_ours_is_run() -> None:
    assert {"api", "worker"} <= {item.image for item in CONTAINERS.values()}
    assert {"compose api", "compose dashboard", "compose flower", "k8s inferlane-api"} <= set(CONTAINERS)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_comes_up_healthy_with_the_files_of_its_image_and_ends_when_told(
    name: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """Its health checks fail before it runs, pass when it does, and SIGTERM is enough to end it."""
    container = CONTAINERS[name]
    folder = image_tree(container.image, tmp_path / "app")
    environ |= {key: value for key, value in container.environ.items() if key not in HERE}
    # As its console scripts, which do not look for modules in the working directory.
    command, *checks = [translated(words, environ) for words in (container.command, *container.checks)]
    address = f"http://127.0.0.1:{environ['DASHBOARD_PORT' if 'dashboard' in command else 'API_PORT']}"

    def healthy() -> bool:
        return all(run(check, environ, folder=folder).returncode == 0 for check in checks) and all(
            answers(f"{address}{path}") for path in container.paths
        )

    assert checks or container.paths
    assert not any(run(check, environ, folder=folder).returncode == 0 for check in checks)
    words = [str(BIN / command[0]), *command[1:]]
    process = Process(words, name="command", folder=tmp_path, environ=environ, root=folder)
    try:
        wait_until(lambda: process.check_alive() or healthy(), 180, interval=0.5, what=f"{name} is healthy")
    finally:
        ended = process.stop(30)
    assert ended in (0, -15) if "scripts.flower" in command else ended == 0, process.log()


def translated(command: Sequence[str], environ: dict[str, str]) -> tuple[str, ...]:
    """A command with the ports and the address of this machine."""
    new = {
        ":5555/": f":{environ['FLOWER_PORT']}/",
        ":8050/": f":{environ['DASHBOARD_PORT']}/",
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced
    }
    pattern = "|".join(map(re.escape, new))
    return tuple(re.sub(pattern, lambda found: new[found[0]], word) for word in command)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_the_editors_broker_is_a_redis_at_the_address_of_the_settings(tmp_path: Path) -> None:
    (command,) = distinct("scripts.broker")
    stack = Stack("", tmp_path)
    environ, url = stack.environ(), stack.settings().redis_url
    process = Process([sys.executable, "-m", *command], name="broker", folder=tmp_path, environ=environ)
    try:
        wait_until(lambda: process.check_alive() or broker.answers(url), 20, what="the broker answers")
    finally:
        assert process.stop() == 0


@pytest.mark.parametrize("command", [*distinct("worker_models"), *distinct("pytest")], ids=" ".join)
def test_a_command_that_ends_ends_well(command: tuple[str, ...], environ: dict[str, str]) -> None:
    done = run(("python", "-m", *command), environ, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
