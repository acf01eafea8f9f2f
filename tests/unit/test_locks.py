"""What is installed is pinned by the hashes of its files, in step with pyproject.toml; no file names an index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import inferlane
from scripts.lock import BY_VERSION, GROUPS, LOCK, REQUIREMENTS, ROOT, UNLOCKED
from tests.support.locks import locked, requirements, versions
from tests.unit.deploy.files import dockerfile


@pytest.mark.parametrize("group", GROUPS)
def test_the_lock_has_all_that_a_group_asks_for(group: str) -> None:
    wanted = versions("\n".join(requirements(group)))
    assert wanted
    assert wanted.items() <= versions(locked(group)).items()


def test_requirements_txt_has_the_versions_of_one_host() -> None:
    assert versions(REQUIREMENTS.read_text()) == versions(locked("all"))


def test_the_lock_agrees_with_the_environment_that_the_tests_pass_in() -> None:
    installed = {canonicalize_name(item.metadata["Name"]): item.version.split("+")[0] for item in distributions()}
    everything = versions(LOCK.read_text())
    differing = {name: (installed[name], everything[name]) for name in installed.keys() & everything.keys()
                 if installed[name] != everything[name]}  # fmt: skip
    assert differing == {}


def test_every_entry_has_hashes_and_none_names_a_place() -> None:
    text = LOCK.read_text()
    assert "://" not in text
    entries = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if not line.startswith("#")]
    assert [line for line in entries if not re.search(r"==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []
    assert [name for name in versions("\n".join(entries)) if name in BY_VERSION or UNLOCKED.fullmatch(name)] == []


def set_up(venv: Path, group: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "setup.sh", group],
        env=os.environ | {"VENV": str(venv)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_setup_installs_a_group_by_its_hashes_and_torch_by_version(group: str, tmp_path: Path) -> None:
    python, calls = tmp_path / "bin" / "python", tmp_path / "calls"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] || echo "$@" >> {calls}\n')
    python.chmod(0o755)
    for _ in range(2):  # the second time there is nothing to do
        done = set_up(tmp_path, group)
        assert done.returncode == 0, done.stderr
    first, *others = calls.read_text().splitlines()
    options = "-m pip install --no-compile --progress-bar off --disable-pip-version-check"
    by_version = versions(locked(group))
    assert first == f"{options} --require-hashes --no-deps -r {tmp_path}/.{group}.lock.new"
    assert (tmp_path / f".{group}.lock").read_text() == locked(group)
    torch = [f"{name}=={by_version[name]}" for name in sorted(BY_VERSION & by_version.keys())]
    assert others == ([f"{options} {' '.join(torch)}"] if torch else [])
    assert (tmp_path / "bin" / "inferlane").exists() == ("httpx" in by_version)


def test_setup_writes_a_command_that_works_in_any_folder_and_shell(tmp_path: Path) -> None:
    venv = tmp_path / "an environment"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / ".host.lock").write_text(locked("host"))
    assert set_up(venv, "host").returncode == 0
    command = [venv / "bin" / "inferlane", "--version"]
    packages = {"PATH": os.defpath, "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages"))}
    done = subprocess.run(command, cwd=tmp_path, env=packages, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"inferlane {inferlane.__version__}\n"), done.stderr


def test_setup_refuses_a_group_that_is_not_there(tmp_path: Path) -> None:
    done = set_up(tmp_path, "tests")
    assert (done.returncode, done.stderr) == (2, "setup.sh: pyproject.toml has no dependency group tests\n")


def test_images_install_with_setup_only() -> None:
    commands = " ".join(command for stage in dockerfile().values() for command in stage.all("RUN"))
    assert "pip install" not in commands
    assert set(re.findall(r"scripts/setup\.sh (\w+)", commands)) == {"api", "worker", "torch"}
