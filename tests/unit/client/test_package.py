"""The package stands alone: copied somewhere else, it works without the rest of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
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
LOADED = f"import sys, inferlane.cli; print(inferlane.__file__, sorted(set({FOREIGN!r}) & set(sys.modules)))"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "inferlane", tmp_path / "inferlane", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copy_of_the_folder_runs_by_itself(copy: Path) -> None:
    assert "classify" in python(copy, "-m", "inferlane", "--help")


def test_it_loads_nothing_of_the_server(copy: Path) -> None:
    assert python(copy, "-c", LOADED).strip() == f"{copy / 'inferlane' / '__init__.py'} []"


def test_pip_installs_the_package_and_its_command_and_nothing_of_the_server(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    source = tmp_path / "source"
    shutil.copytree(ROOT / "inferlane", source / "inferlane", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*build, tmp_path, source], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        text = "".join(archive.read(name).decode() for name in names if name.endswith(("METADATA", "entry_points.txt")))
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"inferlane"}
    assert {"inferlane/py.typed", "inferlane/commands/classify.py"} <= names
    assert "inferlane = inferlane.cli:main" in text
    assert sorted(re.findall(r"^Requires-Dist: (\w+)", text, re.MULTILINE)) == ["httpx", "rich"]
