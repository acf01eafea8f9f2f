"""Results files to pages: ``bench/results/README.md`` and the table in ``docs/performance.md``.

``python -m bench.report`` writes them again from the JSON files that this machine's benchmark runs left. The pages and
charts are committed, the JSON files are not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.facts import RESULTS
from bench.markdown import circumstances, verdicts
from bench.parts.catalog import PARTS
from bench.parts.part import BenchPart
from bench.peers import report as peers
from bench.targets import TargetResult
from bench.trees import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"


def main() -> int:
    """Command line; 1 when there are no results."""
    argparse.ArgumentParser(prog="python -m bench.report", description=__doc__).parse_args()
    if not any(RESULTS.glob("*.json")):
        print("bench/results has no results of this machine: run make benchmark first")
        return 1
    write(RESULTS)
    return 0


def write(folder: Path, page: Path = PAGE) -> None:
    """All pages and charts of ``folder``; ``page`` only when the folder is the project's own."""
    for part, report, stem in _reports(folder):
        if part.draw is not None:
            part.draw(report, folder / f"{stem}.svg")
    for path, text in pages(folder, page).items():
        path.write_text(text)


def pages(folder: Path, page: Path) -> dict[Path, str]:
    """The text of each page that the results in ``folder`` give."""
    found = {folder / "README.md": overview(folder)}
    if folder == RESULTS:
        found[page] = replaced(page.read_text(), targets(folder))
    return found


def overview(folder: Path) -> str:
    """Every part's results on one page."""
    lines = ["# Benchmark results", "", "Written by `python -m bench.report` from the JSON files of the runs.", ""]
    for part, report, stem in _reports(folder):
        title = f"{part.title}: {report['model']}" if part.per_model else part.title
        chart = [f"![{part.title}]({stem}.svg)", ""] if part.draw is not None else []
        lines += [f"## {title}", "", circumstances(report), "", *part.render(report), "",
                  *verdicts(part.judge(report)), "", *chart]  # fmt: skip
    for report in _peer_reports(folder):
        stem = f"peers-{report['model']}"
        lines += [f"## Beside other ways to serve: {report['model']}", "", f"See [{stem}.md]({stem}.md).", "",
                  *verdicts(peers.judge(report)), ""]  # fmt: skip
    return "\n".join(lines)


def targets(folder: Path) -> str:
    """All targets in one table, with where and when they were measured."""
    reports = [report for _, report, _ in _reports(folder)] + list(_peer_reports(folder))
    if not reports:
        return "Nothing has been measured yet.\n"
    when = sorted(report["at"] for report in reports)
    machine = reports[0]["machine"]
    head = (
        f"Measured {when[0]} to {when[-1]} on {machine['cores']} cores ({machine['cpu']}), photos of "
        f"{reports[0]['photo_bytes'] // 1000} KB; the callers run on the same cores."
    )
    beside = [line for report in _peer_reports(folder) for line in _beside(report)]
    return "\n".join([head, "", *verdicts(judged(folder)), "", *beside])


def _beside(report: dict[str, Any]) -> list[str]:
    """The peers' table for the page on performance."""
    stem = f"../bench/results/peers-{report['model']}"
    head = f"{report['model']}, {report['concurrency']} callers, beside other ways to serve ([how]({stem}.md)):"
    return [head, "", *peers.summary(report), "", f"![shares of the limit]({stem}.svg)", ""]


def judged(folder: Path) -> list[TargetResult]:
    """Every target the results in ``folder`` can decide."""
    found = [verdict for part, report, _ in _reports(folder) for verdict in part.judge(report)]
    return found + [verdict for report in _peer_reports(folder) for verdict in peers.judge(report)]


def replaced(page: str, block: str) -> str:
    """``page`` with the text between the two marks replaced.

    Raises:
        ValueError: the page has not exactly one pair of marks.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page needs one {BEGIN} and one {END}")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{block}{END}{rest.partition(END)[2]}"


def _reports(folder: Path) -> Iterator[tuple[BenchPart, dict[str, Any], str]]:
    for part in PARTS:
        for path in sorted(folder.glob(f"{part.name}-*.json" if part.per_model else f"{part.name}.json")):
            yield part, json.loads(path.read_text()), path.stem


def _peer_reports(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("peers-*.json")):
        yield json.loads(path.read_text())


if __name__ == "__main__":
    sys.exit(main())
