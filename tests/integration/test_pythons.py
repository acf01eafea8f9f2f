"""Every version of Python that is supported finds a built file of everything that is locked. Asks the package index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lock import PYTHONS, ROOT, UNLOCKED
from tests.support.locks import locked, versions

LINUX, ARM, MAC = "x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin"
#: What uv says when it reaches no index.
UNREACHABLE = re.compile(r"error sending request|Failed to fetch|Could not connect|dns error|connectivity is disabled")


def uv(*arguments: str) -> str:
    """The output of a uv command that downloads neither package nor interpreter; skips where no index is in reach."""
    environ = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_PYTHON_DOWNLOADS": "never"}
    command = [sys.executable, "-m", "uv", "pip", *arguments, "--only-binary", ":all:", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"no package index in reach: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("group", "platform"), [("dev", LINUX), ("host", ARM), ("host", MAC)])
def test_every_locked_package_has_a_file_for_it(python: str, group: str, platform: str, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(locked(group))
    uv("install", "--dry-run", "--no-deps", "--require-hashes", "--target", str(tmp_path), "--python-version", python,
       "--python-platform", platform, "--requirements", str(file))  # fmt: skip


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", [LINUX, MAC])
def test_what_a_group_brings_there_is_locked(python: str, platform: str, tmp_path: Path) -> None:
    """With torch, which is locked by version only."""
    group = "dev" if platform == LINUX else "all"
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(locked(group))
    found = versions(uv("compile", "--no-header", "--python-version", python, "--python-platform", platform,
                        "--group", group, "--constraints", str(constraints)))  # fmt: skip
    wanted = {name: version for name, version in found.items() if not UNLOCKED.fullmatch(name)}
    assert "torch" in wanted
    assert wanted.items() <= versions(locked(group)).items()


def test_setup_takes_these_versions_and_no_other() -> None:
    (bounds,) = re.findall(
        r"\((\d), (\d+)\) <= sys.version_info < \((\d), (\d+)\)", (ROOT / "scripts" / "setup.sh").read_text()
    )
    assert bounds[0] == bounds[2] == "3"
    assert [f"3.{minor}" for minor in range(int(bounds[1]), int(bounds[3]))] == list(PYTHONS)
    for page in ("README.md", "scripts/setup.sh", "deploy/Dockerfile"):
        assert all(python in (ROOT / page).read_text() for python in PYTHONS), page
