"""The package stands alone: copied somewhere else, it works without the rest of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

FOREIGN = (
    "settings",
    "logs",
    "api",
    "tasks",
    "worker_models",
    "dashboard",
    "torch",
    "numpy",
    "flask",
    "celery",
    "redis",
)
LOADED = f"import sys, client.cli; print(client.__file__, sorted(set({FOREIGN!r}) & set(sys.modules)))"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "client", tmp_path / "client", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copy_of_the_folder_runs_by_itself(copy: Path) -> None:
    assert "classify" in python(copy, "-m", "client", "--help")


def test_it_loads_nothing_of_the_server(copy: Path) -> None:
    assert python(copy, "-c", LOADED).strip() == f"{copy / 'client' / '__init__.py'} []"
