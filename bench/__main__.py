"""``make benchmark``: Inferlane against its own in-process limit, and what its queue costs.

Each part writes its results file as soon as it is done, so a run that is ended loses one part at most, and ``--resume``
goes on inside that part. Progress is printed as it is made.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path

from bench import facts, report
from bench.budget import Budget, say
from bench.journal import Journal
from bench.markdown import verdicts
from bench.parts.catalog import PARTS
from bench.parts.part import BenchPart, PartContext
from bench.trees import end_on_sigterm


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    options = _parser().parse_args(arguments)
    chosen = [part for part in PARTS if part.name in options.parts]
    whole = sum(part.share for part in chosen)
    options.results.mkdir(parents=True, exist_ok=True)
    # What one part leaves over, the later ones share.
    budget = Budget(60 * options.minutes)
    failed = []
    for part in chosen:
        seconds = budget.left * part.share / whole
        whole -= part.share
        say(f"{part.title} ({part.name}), about {seconds:.0f} s")
        try:
            _measure(part, options, seconds)
        except (RuntimeError, AssertionError, ValueError, OSError, HTTPException) as error:
            failed.append(part.name)
            say(f"{part.name} FAILED: {type(error).__name__}: {error}")
    report.write(options.results)
    print("\n".join(verdicts(report.judged(options.results))))
    if failed:
        say(f"not measured: {', '.join(failed)}; --resume --parts {' '.join(failed)} goes on")
    return 1 if failed else 0


def _measure(part: BenchPart, options: argparse.Namespace, seconds: float) -> None:
    stem, at = part.stem(options.model), facts.facts("bench")
    journal = Journal(
        facts.JOURNALS / f"{stem}.jsonl", resume=options.resume, stamp=f"{facts.commit()} {options.seconds}"
    )
    with tempfile.TemporaryDirectory(prefix="b") as folder:
        found = part.measure(PartContext(options, Budget(seconds), journal, Path(folder)))
    result = at | found | {"records": list(journal)}
    result["verdicts"] = [verdict.to_json() for verdict in part.judge(result)]
    (options.results / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    for verdict in part.judge(result):
        say(": ".join((verdict.target, f"{verdict.row[2]} (wanted {verdict.row[1]})", verdict.result)))


def _parser() -> argparse.ArgumentParser:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--minutes", type=float, default=8, help="for all chosen parts together")
    parser.add_argument("--rounds", type=int, default=10, help="at most; fewer when the time is up")
    parser.add_argument("--seconds", type=float, default=4, help="of one measurement")
    parser.add_argument("--queued", type=int, default=100_000, help="growth: the longest queue")
    parser.add_argument("--calls", type=int, default=300, help="growth: timed calls of each kind")
    parser.add_argument("--workers", type=int, default=16, help="workers: the most")
    parser.add_argument("--repeats", type=int, default=1, help="workers: measurements at each number")
    parser.add_argument("--overload-seconds", type=float, default=30)
    parser.add_argument("--api-processes", type=int, help="default: as shipped")
    parser.add_argument("--weights", default=os.environ.get("WEIGHTS_DIR", ""), help="WEIGHTS_DIR of the workers")
    parser.add_argument("--resume", action="store_true", help="keep what was measured at this commit")
    parser.add_argument("--results", type=Path, default=facts.RESULTS)
    return parser


if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main())
