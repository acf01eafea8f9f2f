"""The launches of the editor, as it runs them: the Full System starts, classifies a photo of a cat, and ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import probes
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.unit.deploy.files import vscode

pytestmark = pytest.mark.slow


def full_system() -> list[dict[str, Any]]:
    """The launches of the compound, in its order."""
    launch = vscode("launch.json")
    (compound,) = launch["compounds"]
    by_name = {item["name"]: item for item in launch["configurations"]}
    return [by_name[name] for name in compound["configurations"]]


def test_the_full_system_of_the_editor_answers_and_ends(tmp_path: Path) -> None:
    ports = {f"{name}_PORT": free_port() for name in ("API", "DASHBOARD", "FLOWER")}
    stack = Stack("", tmp_path, MODELS="efficientnet_lite0", **ports)
    settings = stack.settings()
    with contextlib.ExitStack() as ending:
        processes = []
        for item in full_system():
            command = [sys.executable, "-m", item["module"], *item.get("args", [])]
            environ = stack.environ() | item.get("env", {})
            name = item["name"].partition(":")[0]
            process = Process(command, name=name, folder=tmp_path, environ=environ)
            ending.callback(process.stop, 30)
            processes.append(process)
        for listener in probes.listeners(settings):
            wait_until(lambda: not listener.problem(), timeout=120, what=listener.name)  # noqa: B023 - used at once
        wait_until(lambda: probes.workers_seen(settings), timeout=120, what="the worker takes a lease")
        done = subprocess.run(
            [sys.executable, "-m", "scripts.demo"], cwd=ROOT, env=stack.environ(), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "cat" in done.stdout
        for process in reversed(processes):
            assert process.alive, process.log()
            process.stop(30)
    assert probes.taken_ports(settings, {"api", "dashboard", "flower", "broker"}) == []
