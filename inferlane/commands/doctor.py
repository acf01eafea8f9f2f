"""``doctor``: find common mistakes in an installation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from inferlane.checks import Diagnosis, Verdict, examine, gather
from inferlane.clients import Client
from inferlane.commands.command import argument, command
from inferlane.console import Context, Exit, plain, seconds, table
from inferlane.errors import ClientError

COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "red", Verdict.UNKNOWN: "dim"}


@command(
    "doctor", "check this installation; exits with 1 if there is a problem",
    argument("--photo", type=Path, help="also classify this photo"),
)  # fmt: skip
def _doctor(context: Context) -> int:
    with context.client() as client:
        findings = examine(gather(client))
        if photo := context.arguments.photo:
            findings.append(_request(client, photo))
    context.show([asdict(finding) for finding in findings], lambda: _report(findings))
    return Exit.FAILED if any(finding.verdict is Verdict.PROBLEM for finding in findings) else Exit.OK


def _request(client: Client, photo: Path) -> Diagnosis:
    try:
        result = client.predict(photo)
    except ClientError as error:
        return Diagnosis("a request", Verdict.PROBLEM, f"{error.code}: {error}")
    taken = seconds(result.processing_time)
    return Diagnosis("a request", Verdict.OK, f"{result.model} says {result.best.label} after {taken}")


def _report(findings: Sequence[Diagnosis]) -> RenderableType:
    made = table("", "", "!what", "finding, with its remedy", rows=())
    for finding in findings:
        verdict = Text(finding.verdict, style=COLOURS[finding.verdict])
        lines = [plain(finding.detail), *([f"-> {plain(finding.remedy)}"] if finding.remedy else [])]
        made.add_row(verdict, plain(finding.name), "\n".join(lines))
    counts = Counter(finding.verdict for finding in findings)
    return Group(made, ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]))
