"""How much is too much: ``python -m tests.load.stress`` raises the rate step by step until the limits do not hold.

Each step is an open-loop load of some seconds with the options of ``tests/load_test.py``; the last that held is the
answer. It exits with 0 when at least the first step held.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator

from rich.console import Console

from inferlane.console import seconds
from tests.load import plan, screen, verdict
from tests.load.send import load
from tests.load.verdict import Verdict


def rates(first: float, factor: float, most: float) -> Iterator[float]:
    """Requests per second of each step."""
    rate = first
    while rate <= most:
        yield rate
        rate *= factor


def climb(steps: Iterator[float], measure: Callable[[float], Verdict], console: Console) -> float | None:
    """The last of ``steps`` within the limits before the first beyond them; None when the first is beyond them."""
    held = None
    for rate in steps:
        found = measure(rate)
        numbers, p95 = found.document, seconds(found.document["latency"]["p95"])
        words = "; ".join(found.reasons) or "within the limits"
        console.print(f"{rate:8.1f}/s  {numbers['succeeded']}/{numbers['sent']} right  p95 {p95}  {words}")
        if found.reasons:
            return held
        held = rate
    return held


def main(given: list[str] | None = None) -> int:
    """Climb and say how far it went."""
    parser = plan.parser()
    own = parser.add_argument_group("steps")
    own.add_argument("--first", type=float, default=5.0, metavar="RATE", help="requests per second (%(default)g)")
    own.add_argument("--factor", type=float, default=1.5, help="from step to step (%(default)g)")
    own.add_argument("--most", type=float, default=2000.0, metavar="RATE", help="stop there (%(default)g)")
    own.add_argument("--seconds", type=float, default=10.0, help="of each step (%(default)g)")
    parser.set_defaults(max_p95=1.0)
    arguments = parser.parse_args(given)
    if not (arguments.first > 0 and arguments.factor > 1 and arguments.seconds > 0):
        parser.error("--first and --seconds must be above 0 and --factor above 1")
    console = Console(highlight=False, markup=False)
    held = climb(
        rates(arguments.first, arguments.factor, arguments.most), lambda rate: step(arguments, rate, console), console
    )
    console.print("not even the first step held" if held is None else f"held: {held:.1f} requests per second")
    return 1 if held is None else 0


def step(arguments: argparse.Namespace, rate: float, console: Console) -> Verdict:
    """Load at ``rate`` and judge."""
    one = argparse.Namespace(**{**vars(arguments), "rate": rate, "requests": max(1, round(rate * arguments.seconds))})
    with screen.Live(console, one.requests, verbose=False).shown() as live:
        account = asyncio.run(load(one, live))
    return verdict.judge(account, live.ended, one)


if __name__ == "__main__":
    sys.exit(main())
