"""Copies of the project with one deliberate fault: a test that passes on those as well proves nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import ROOT

#: What workers and the API need to run.
SOURCES = (
    "celeryconfig.py",
    "common",
    "tasks",
    "worker_models",
    "api",
    "deploy",
    "tests/__init__.py",
    "tests/toy.py",
)


class Mutation(NamedTuple):
    """In ``file``, the one place that says ``text`` says ``instead``."""

    file: str
    text: str
    instead: str


def mutant(folder: Path, mutation: Mutation) -> Path:
    """A copy of the source tree below ``folder``, with the mutation.

    Raises:
        AssertionError: the text is not there exactly once, so the mutation has outlived the code it was made for.
    """
    root = folder / "mutant"
    for name in SOURCES:
        _copy(ROOT / name, root / name)
    file = root / mutation.file
    source = file.read_text()
    assert source.count(mutation.text) == 1, f"{mutation.file} does not say {mutation.text!r} exactly once"
    file.write_text(source.replace(mutation.text, mutation.instead))
    return root


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
