"""What pages show, for tests that run it as it stands there."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

#: A command and the lines that it goes on with, and then what it prints.
PROMPTED = re.compile(r"^\$ (.*(?:\n {2,}.*)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Example:
    """A command, and the lines that the page says it prints, ``...`` for anything."""

    command: str
    prints: tuple[str, ...] = ()

    def is_printed(self, text: str) -> bool:
        """Whether these lines are in ``text``, in any order, however they are aligned."""
        lines = [" ".join(line.split()) for line in text.splitlines()]
        return all(any(_pattern(line).fullmatch(found) for found in lines) for line in self.prints)


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, " ".join(line.split()).split("..."))))


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def examples(page: str) -> list[Example]:
    """The commands of ``page``, those behind a prompt with what they print."""
    prompted = [found for block in _blocks(page, "console") for found in PROMPTED.findall(block)]
    return [
        *map(Example, _blocks(page, "sh")),
        *(Example(command, tuple(printed.splitlines())) for command, printed in prompted),
    ]


def snippets(page: str) -> list[str]:
    """The examples of ``page`` in Python."""
    return _blocks(page, "python")


def fresh_shell(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of a shell in which the virtual environment is active and ``make`` need not set it up again."""
    shims = folder / "shims"
    shims.mkdir(parents=True, exist_ok=True)
    make = shims / "make"
    make.write_text(f'#!/bin/sh\nPATH={shlex.quote(environ["PATH"])} exec make -o setup -o setup-dev "$@"\n')
    make.chmod(0o755)
    binaries = Path(sys.prefix) / "bin"
    return {**environ, "VENV": sys.prefix, "PATH": f"{shims}:{binaries}:{environ['PATH']}"}
