"""What every part of the benchmark gets and has."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.budget import Budget
from bench.journal import Journal
from bench.targets import TargetResult

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PartContext:
    """The resources of a part: options, time, journal, and a folder that is deleted afterwards."""

    options: argparse.Namespace
    budget: Budget
    journal: Journal
    folder: Path

    @property
    def seconds(self) -> float:
        """Of one measurement."""
        return float(self.options.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPart:
    """A part of the benchmark.

    Attributes:
        name: of the results file and on the command line.
        title: in the report.
        share: of the whole benchmark's time.
        per_model: whether it says something about one model only.
        measure: fills the journal; returns what else the results file should say.
        judge: the targets this part can decide, from a results file.
        render: Markdown lines from a results file.
        draw: writes the chart, if there is one, into a file.
    """

    name: str
    title: str
    share: float
    per_model: bool
    measure: Callable[[PartContext], dict[str, Any]]
    judge: Callable[[Report], list[TargetResult]]
    render: Callable[[Report], list[str]]
    draw: Callable[[Report, Path], None] | None = None

    def stem(self, model: str) -> str:
        """Of its files."""
        return f"{self.name}-{model.rpartition(':')[2]}" if self.per_model else self.name
