"""The Makefile says what it can do, and the documents promise nothing it cannot."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_help_lists_every_target_with_a_sentence() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"^  ([a-z-]+)\s+(\S.*)$", shown, re.MULTILINE))
    assert set(listed) == TARGETS


def test_every_target_is_phony() -> None:
    """A file or folder of the same name would silently switch the target off."""
    command = ["make", "--print-data-base", "--question", "help"]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    (phony,) = re.findall(r"^\.PHONY: (.+)$", known, re.MULTILINE)
    assert set(phony.split()) == TARGETS


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_documents_name_only_targets_that_exist(page: Path) -> None:
    text = page.read_text()
    commands = re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text, re.MULTILINE) + re.findall(
        r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text
    )
    assert set(commands) <= TARGETS


def test_nothing_committed_names_a_package_index() -> None:
    for file in ("requirements.txt", "scripts/requirements.lock", "scripts/setup.sh", "pyproject.toml", "Makefile"):
        assert not re.search(r"https?://|^--(extra-)?index-url", (ROOT / file).read_text(), re.MULTILINE), file
