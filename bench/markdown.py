"""Tables and heads of reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.targets import TargetResult


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def verdicts(found: Iterable[TargetResult]) -> list[str]:
    """Targets as a table."""
    return table(["target", "wanted", "measured", ""], (verdict.row for verdict in found))


def circumstances(report: dict[str, Any]) -> str:
    """Machine, time, versions and command in one paragraph."""
    machine, versions = report["machine"], report["versions"]
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"Measured {report['at']} at commit `{report['commit']}` on {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}, load {machine['load_before']} before; photos of "
        f"{report['photo_bytes'] // 1000} KB. Python {machine['python']}, {named}. Command: `{report['command']}`. "
        "The callers run on the same cores."
    )


def weights_note(weights: str) -> str:
    """What kind of weights were used: random ones are as fast as others and know nothing."""
    return f"Weights: {weights}" + (", good for speed only." if weights == "random" else ".")
