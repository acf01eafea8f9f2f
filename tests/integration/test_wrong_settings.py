"""A setting that cannot be used ends whatever reads it with one line and the exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.settings import MISUSED
from tests.support.processes import ROOT
from tests.support.stack import Stack

COMMANDS = (
    "-m api", "-m dashboard", "-m celery -A tasks worker --model resnet18", "-m celery -A tasks inspect ping",
    "-m scripts status", "-m scripts.broker", "-m scripts.flower", "-m scripts.alive", "-m worker_models prepare",
    "-m scripts.demo", "tests/load_test.py",
)  # fmt: skip


def run(folder: Path, command: str, **environ: object) -> subprocess.CompletedProcess[str]:
    given = Stack("redis://127.0.0.1:1/0", folder, **environ).environ()
    return subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_process_says_it_in_one_line(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, command, LOAD_BALANCE_STRATEGY="lest_loaded")
    expected = "LOAD_BALANCE_STRATEGY: must be one of least_loaded, round_robin, random (got 'lest_loaded')"
    assert (done.stderr.splitlines(), done.returncode) == ([expected], MISUSED)


@pytest.mark.parametrize("model", ["any", "a.b", "mine=nothing"])
def test_a_worker_whose_model_cannot_be_named_so_says_it_in_one_line(model: str, tmp_path: Path) -> None:
    done = run(tmp_path, f"-m celery -A tasks worker --model {model}")
    (line,) = done.stderr.splitlines()
    assert line.startswith("--model: ")
    assert done.returncode == 1


def test_preparing_a_model_that_cannot_be_named_so_skips_it(tmp_path: Path) -> None:
    done = run(tmp_path, "-m worker_models prepare any")
    assert done.stdout.startswith("any: skipped, --model: 'any' cannot name a model")
    assert done.returncode == 1
