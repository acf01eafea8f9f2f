"""The tour shows a real system, says so when that misbehaves, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scripts.probes import MARK
from scripts.tour.scenes import SCENES
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.stack import Stack


def demo(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "demo.py"), *arguments]
    environ = os.environ | {"TMPDIR": str(folder)}
    return subprocess.run(
        command, cwd=ROOT, env=environ, input=typed, capture_output=True, text=True, timeout=280, check=False
    )


def left_running(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if str(folder) in _mark(process)]


def _mark(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(MARK, ""))
    except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
        return ""


@pytest.mark.slow
def test_the_whole_tour_works_on_a_system_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    done = demo(tmp_path, "--quick", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it worked." in done.stdout
    assert "worker_died" in done.stdout
    assert left_running(tmp_path) == []
    assert list(tmp_path.glob("inferlane-tour-*")) == []


def test_a_scene_fails_on_a_system_that_answers_wrongly(stack: Stack, tmp_path: Path) -> None:
    """The toy model takes every picture for the same thing."""
    stack.start_worker("tests.toy:photo", TOY_SECONDS=0.01)
    url = stack.start_api(MODELS="photo").url
    done = demo(tmp_path, "--scene", "single", "--scene", "health", "--model", "photo", "--url", url)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"Using the system that runs at {url}" in done.stdout
    assert "cat.png is no" in done.stdout
    assert "Failed: single" in done.stdout


def test_the_menu_plays_what_is_chosen(stack: Stack, tmp_path: Path) -> None:
    stack.start_worker("tests.toy:photo", TOY_SECONDS=0.01)
    number = list(SCENES).index("health") + 1
    url = stack.start_api(MODELS="photo").url
    done = demo(tmp_path, "--menu", "--model", "photo", "--url", url, typed=f"{number}\nq\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it worked." in done.stdout
