"""The demonstration shows a real system, says so when that misbehaves, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.demo.scenes import DEATHS, SCENES, judge
from scripts.demo.stage import CAT, DemoError
from scripts.probes import MARK
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.stack import Stack


def demo(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.demo", *arguments]
    environ = os.environ | {"TMPDIR": str(folder)}
    return subprocess.run(
        command, cwd=ROOT, env=environ, input=typed, capture_output=True, text=True, timeout=560, check=False
    )


def left_running(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if str(folder) in _mark(process)]


def _mark(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(MARK, ""))
    except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
        return ""


def answer(request_id: str, *, deaths: int = 0, error: str = "", index: int = 281) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "state": "failed" if error else "succeeded",
        "error": {"code": error} if error else None,
        "predictions": [{"index": index}],
        "timeline": [{"event": "worker_died"}] * deaths,
    }


GUILTY = answer("g", deaths=DEATHS, error="poison")
BESIDE = answer("a", deaths=1)


def test_the_poison_scene_believes_what_is_right() -> None:
    judge(GUILTY, [(CAT, BESIDE), (CAT, answer("b"))], ["g"])


@pytest.mark.parametrize(
    ("guilty", "innocent", "letters", "said"),
    [
        (answer("g"), BESIDE, ["g"], "is succeeded"),
        (answer("g", deaths=DEATHS, error="image_lost"), BESIDE, ["g"], "image_lost"),
        (answer("g", deaths=1, error="poison"), BESIDE, ["g"], "1 workers died"),
        (GUILTY, BESIDE, [], "dead letters are"),
        (GUILTY, BESIDE, ["g", "a"], "dead letters are"),
        (GUILTY, answer("a", deaths=1, error="poison"), ["g"], "no right answer for a"),
        (GUILTY, answer("a", deaths=1, index=967), ["g"], "no right answer for a"),
        (GUILTY, answer("a"), ["g"], "nothing was shown"),
    ],
)
def test_the_poison_scene_notices_what_is_wrong(
    guilty: dict[str, Any], innocent: dict[str, Any], letters: list[str], said: str
) -> None:
    with pytest.raises(DemoError, match=said):
        judge(guilty, [(CAT, innocent)], letters)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_tour_works_on_a_system_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    done = demo(tmp_path, "--quick", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it worked." in done.stdout
    assert "worker_died" in done.stdout
    assert "dead_lettered" in done.stdout
    assert left_running(tmp_path) == []
    assert list(tmp_path.glob("inferlane-demo-*")) == []


def test_a_scene_fails_on_a_system_that_answers_wrongly(stack: Stack, tmp_path: Path) -> None:
    """The toy model takes every picture for the same thing."""
    stack.start_worker("tests.toy:photo", TOY_SECONDS=0.01)
    url = stack.start_api(MODELS="photo").url
    done = demo(tmp_path, "--scene", "single", "--scene", "health", "--model", "photo", "--url", url)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"Using the system that runs at {url}" in done.stdout
    assert "cat.png is not" in done.stdout
    assert "Failed: single" in done.stdout


def test_the_menu_plays_what_is_chosen(stack: Stack, tmp_path: Path) -> None:
    stack.start_worker("tests.toy:photo", TOY_SECONDS=0.01)
    number = list(SCENES).index("health") + 1
    url = stack.start_api(MODELS="photo").url
    done = demo(tmp_path, "--menu", "--model", "photo", "--url", url, typed=f"{number}\nq\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it worked." in done.stdout
