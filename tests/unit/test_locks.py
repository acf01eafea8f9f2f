"""What is installed is pinned to the hash of its file, in step with the requirements; no file names an index."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from scripts.lock import LOCKS, ROOT, SOURCES, UNHASHED, included
from tests.unit.deploy.files import dockerfile


def entries(text: str) -> dict[str, str]:
    """Name -> version of every ``name==version`` line."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@cache
def locked(name: str) -> dict[str, str]:
    """Everything a lock installs, with what it includes."""
    text = (LOCKS / f"{name}.txt").read_text()
    found: dict[str, str] = {}
    for other in re.findall(r"^-r (\w+)\.txt$", text, re.MULTILINE):
        found |= locked(other)
    return found | entries(text)


def asked(source: str) -> dict[str, str]:
    """Everything that a requirements file asks for directly, with what it includes."""
    text = (ROOT / source).read_text()
    found: dict[str, str] = {}
    for other in re.findall(r"^-r (\S+)", text, re.MULTILINE):
        found |= asked(other)
    return found | entries(text)


@pytest.mark.parametrize("name", SOURCES)
def test_a_lock_has_all_that_its_requirements_ask_for(name: str) -> None:
    wanted = {key: version for key, version in asked(SOURCES[name]).items() if not UNHASHED.match(key)}
    assert wanted
    assert {key: locked(name).get(key) for key in wanted} == wanted


@pytest.mark.parametrize("name", SOURCES)
def test_locks_include_each_other_as_the_requirements_do(name: str) -> None:
    lines = re.findall(r"^-r (\w+)\.txt$", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE)
    assert lines == included(SOURCES[name])


def test_locks_agree_with_the_environment_that_the_tests_passed_in() -> None:
    pinned, everything = entries((ROOT / "constraints.txt").read_text()), locked("dev")
    differing = {name: (pinned[name], everything[name]) for name in pinned.keys() & everything.keys()
                 if pinned[name] != everything[name]}  # fmt: skip
    assert differing == {}
    assert {name for name in pinned.keys() - everything.keys() if not UNHASHED.match(name)} == set()


@pytest.mark.parametrize("file", sorted(LOCKS.glob("*.txt")), ids=lambda file: file.stem)
def test_every_line_of_a_lock_has_hashes_and_none_names_a_place(file: Path) -> None:
    text = file.read_text()
    assert "://" not in text
    assert not re.search(r"^--(extra-)?index-url|^--find-links", text, re.MULTILINE)
    logical = re.sub(r"\\\n\s*", "", text).splitlines()
    pins = [line for line in logical if line and not line.startswith(("#", "-r "))]
    assert [line for line in pins if not re.search(r" --hash=sha256:[0-9a-f]{64}", line)] == []


def test_setup_and_images_install_from_locks_first() -> None:
    setup = (ROOT / "setup.sh").read_text()
    assert setup.index('pip_install --require-hashes --no-deps -r "$lock"') < setup.index('pip_install -r "$wanted"')
    for stage in dockerfile().values():
        installs = re.findall(r"pip install [^&]*", " ".join(stage.all("RUN")))
        assert all("--require-hashes" in line for line in installs[:1]), stage.name
        assert all(line.strip() == "pip install -r requirements-torch.txt" for line in installs[1:]), stage.name
