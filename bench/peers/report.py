"""The results of a run beside the peers, as JSON, Markdown and a chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import charts
from bench.journal import Record
from bench.markdown import circumstances, table, verdicts, weights_note
from bench.peers import catalog
from bench.statistics import Spread, spread
from bench.targets import TargetResult, at_least

OURS, FAST = "inferlane", "inferlane-fast"
TITLES = {OURS: "Inferlane", FAST: "Inferlane, PRECISION=fast"}
FAST_TARGET = 1.6
"""How many times LitServe's rate PRECISION=fast wants to be, where the CPU multiplies bfloat16."""
AHEAD = 1.05
"""How many times a peer's rate, and how much less processor time, the product wants at equal runtime."""
QUICK_TARGET = 1.9
"""How many times LitServe's quick start the product wants to be, on MobileNet."""


@dataclass(frozen=True, slots=True)
class Row:
    """All good measurements of one configuration."""

    system: str
    configuration: str
    records: list[Record]

    @property
    def share(self) -> Spread:
        """Of the limit just before and after."""
        return spread(record["share"] for record in self.records)

    @property
    def title(self) -> str:
        """System and configuration, for people."""
        name = TITLES.get(self.system) or catalog.peer(self.system).title
        return f"{name}: {self.configuration}"

    @property
    def quick_start(self) -> bool:
        """Whether it is the recipe of the peer's documentation."""
        return self.configuration == catalog.QUICK_START

    def middle(self, name: str) -> float:
        """The median of one number."""
        return float(median(record[name] for record in self.records))

    @property
    def core_ms(self) -> float:
        """Of all its processes, for one photo."""
        return float(median(sum(record["core_ms"].values()) for record in self.records))

    @property
    def added(self) -> float:
        """core_ms above the limit's beside it: the cost of serving."""
        return float(
            median(sum(r["core_ms"].values()) - sum(r["limit_core_ms"]) / len(r["limit_core_ms"]) for r in self.records)
        )

    @property
    def pss_mib(self) -> float:
        """Of all its processes, shared pages counted once."""
        return float(median(sum(p["pss_mib"] for part in r["memory"].values() for p in part) for r in self.records))


def rows(records: Sequence[Record]) -> list[Row]:
    """One row for each configuration that was measured without error, in the order they first appear."""
    found: dict[tuple[str, str], Row] = {}
    for record in records:
        if "share" in record:
            key = (record["system"], record["configuration"])
            found.setdefault(key, Row(*key, [])).records.append(record)
    return list(found.values())


def compared(found: Sequence[Row]) -> list[Row]:
    """Inferlane, then each peer's best configuration, then the quick starts; each kind from fast to slow.

    A configuration that only the first round measured was not its peer's best then, so it does not count as it now.
    """
    most = {row.system: max(len(r.records) for r in found if r.system == row.system) for row in found}
    best: dict[str, Row] = {}
    for row in found:
        if not row.quick_start and len(row.records) == most[row.system]:
            held = best.get(row.system)
            if held is None or row.share.median > held.share.median:
                best[row.system] = row
    quick = [row for row in found if row.quick_start]
    tuned = sorted(best.values(), key=lambda row: -row.share.median)
    ours = [row for row in tuned if row.system in TITLES]
    ours.sort(key=lambda row: row.system)
    return ours + [row for row in tuned if row.system not in TITLES] + sorted(quick, key=lambda row: -row.share.median)


def judge(report: dict[str, Any]) -> list[TargetResult]:
    """Ahead of every peer at equal runtime, and far ahead of LitServe's quick start."""
    ordered = compared(rows(report["records"]))
    ours = next((row for row in ordered if row.system == OURS), None)
    if ours is None:
        return []
    found = []
    for row in ordered:
        ratio = ours.share.median / row.share.median
        title = row.title.partition(":")[0]
        if row.system not in TITLES and not row.quick_start:
            found.append(at_least(f"{report['model']}: of {title}'s rate, equal runtime", AHEAD, ratio, "x"))
            cost = row.core_ms / ours.core_ms
            found.append(at_least(f"{report['model']}: {title}'s core-ms, of ours", AHEAD, cost, "x"))
        if row.system == "litserve" and row.quick_start:
            found.append(at_least(f"{report['model']}: of LitServe's quick start", QUICK_TARGET, ratio, "x"))
    shares = {row.system: row.share.median for row in ordered if not row.quick_start}
    if shares.keys() >= {FAST, "litserve"}:
        times = shares[FAST] / shares["litserve"]
        found.append(at_least(f"{report['model']}: PRECISION=fast, of LitServe's rate", FAST_TARGET, times, "x"))
    return found


def summary(report: dict[str, Any]) -> list[str]:
    """Everybody at their best, as a table."""
    return _table(compared(rows(report["records"])))


def render(report: dict[str, Any]) -> str:
    """The report for people."""
    found = rows(report["records"])
    ordered = compared(found)
    versions = ", ".join(f"{catalog.peer(n).title} {peer['version']}" for n, peer in report["peers"].items())
    intro = (
        f"Peers: {versions}. {weights_note(report['weights'])} {report['concurrency']} callers, one photo a request, "
        "each answer checked. Every peer but the quick starts uses the same decoder, graph and onnxruntime options as "
        "Inferlane, from this source tree. A quick start is the peer's default configuration with eager PyTorch and "
        "torchvision's transforms. Shares are of the in-process limit measured just before and after, medians "
        "(least-greatest)."
    )
    lines = [
        f"# Beside other ways to serve: {report['model']}", "", circumstances(report), "", intro, "",
        *_table(ordered), "", *verdicts(judge(report)), "", f"![shares of the limit](peers-{report['model']}.svg)", "",
        "## Every configuration that was tried", "", *_all(found), "",
        *_failures(report["records"]),
        "## How each was run", "", *_how(report), "",
    ]  # fmt: skip
    return "\n".join(lines)


def write(report: dict[str, Any], folder: Path) -> None:
    """``peers-MODEL.json``, ``.md`` and ``.svg`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"peers-{report['model']}"
    report = report | {"verdicts": [verdict.to_json() for verdict in judge(report)]}
    (folder / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / f"{stem}.md").write_text(render(report))
    _chart(report, folder / f"{stem}.svg")
    print(render(report))


def _chart(report: dict[str, Any], target: Path) -> None:
    ordered = compared(rows(report["records"]))
    shown = [(row.title, row.share.median, row.share.least, row.share.greatest) for row in ordered]
    ours = next((row.title for row in ordered if row.system == OURS), "")
    title = f"{report['model']}, {report['concurrency']} callers, {report['machine']['cores']} cores"
    charts.bars(target, title, "share of the in-process limit", shown, highlight=ours, line=1.0)


def _table(ordered: Sequence[Row]) -> list[str]:
    ours = ordered[0].share.median if ordered and ordered[0].system == OURS else None
    head = [
        "system", "of the limit", "photos/s", "core-ms per photo", "above the limit", "p50 ms", "p99 ms", "memory MiB",
        "Inferlane is", "rounds",
    ]  # fmt: skip
    return table(
        head,
        (
            [
                row.title, row.share.text(2), f"{row.middle('rate'):.1f}", f"{row.core_ms:.1f}", f"{row.added:+.1f}",
                f"{row.middle('p50_ms'):.0f}", f"{row.middle('p99_ms'):.0f}", f"{row.pss_mib:.0f}",
                "" if ours is None or row.system == OURS else f"{ours / row.share.median:.2f} x", len(row.records),
            ]
            for row in ordered
        ),
    )  # fmt: skip


def _all(found: Sequence[Row]) -> list[str]:
    return table(
        ["configuration", "of the limit", "photos/s", "p99 ms", "rounds"],
        (
            [row.title, row.share.text(2), f"{row.middle('rate'):.1f}", f"{row.middle('p99_ms'):.0f}", len(row.records)]
            for row in found
        ),
    )


def _failures(records: Sequence[Record]) -> list[str]:
    failed = [r for r in records if "error" in r]
    lines = [f"* {r['system']}, {r['configuration']}: {' '.join(r['error'].split())[:300]}" for r in failed]
    return ["Not measured:", "", *lines, ""] if lines else []


def _how(report: dict[str, Any]) -> list[str]:
    lines = []
    for name in report["peers"]:
        peer = catalog.peer(name)
        commands = "; ".join(f"`{' '.join(command)}`" for command in peer.commands)
        lines.append(f"* **{peer.title}**: {commands}. Durable: {peer.durable}.")
        for configuration in peer.configurations:
            environ = " ".join(f"{key}={value}" for key, value in configuration.environ.items())
            lines.append(f"  * {configuration.name}: `{environ}`")
    return lines
