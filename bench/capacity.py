"""How long requests wait with so many workers: ``python -m bench.capacity --rate 100 --service 0.03 --workers 4``.

Simulates (:mod:`bench.queueing`) and prints a table: one line for each number of workers, and for each priority where
``--mix`` has several. ``--target 0.5`` marks the smallest number of workers whose 99th percentile keeps below it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.queueing import QueuePlan, QueueRun, Simulation, percentile
from tasks.lanes import ORDERS, PRIORITIES

HEAD = f"{'workers':>7}  {'busy':>5}  {'batch':>5}  {'priority':8}  {'share':>5}  {'p50':>8}  {'p95':>8}  {'p99':>8}"


def parser() -> argparse.ArgumentParser:
    """The options; times are seconds."""
    made = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    made.add_argument("--rate", type=float, required=True, help="requests a second, arriving at random (Poisson)")
    made.add_argument("--service", type=float, required=True, help="seconds of a forward pass per image")
    made.add_argument("--workers", type=_numbers, required=True, help="how many: 4, or 2-8 for a line each")
    made.add_argument("--base", type=float, default=0.0, help="seconds of a forward pass whatever its size (0)")
    made.add_argument("--pickup", type=float, default=0.005, help="seconds from taking to inferring (0.005)")
    made.add_argument("--max-batch", type=int, default=16, help="MAX_BATCH (16)")
    made.add_argument("--concurrency", type=int, default=16, help="requests a worker holds, its -c (16)")
    made.add_argument("--mix", type=_shares, default=(0.0, 1.0, 0.0), help="shares of high,normal,low (0,1,0)")
    made.add_argument("--order", choices=sorted(ORDERS), default="weighted", help="LANE_ORDER (weighted)")
    made.add_argument("--scatter", choices=["constant", "exponential"], default="constant",
                      help="how forward passes vary (constant)")  # fmt: skip
    made.add_argument("--requests", type=int, default=20_000, help="how many to simulate (20000)")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--real", action="store_true",
                      help="also run it, with a real Redis and workers of a model that only sleeps")  # fmt: skip
    made.add_argument("--target", type=float, help="seconds that 99 of 100 must keep below")
    return made


def _numbers(text: str) -> list[int]:
    first, _, last = text.partition("-")
    numbers = list(range(int(first), int(last or first) + 1))
    if not numbers or numbers[0] < 1:
        raise argparse.ArgumentTypeError("give a number, or two with the smaller first, for example 2-8")
    return numbers


def _shares(text: str) -> tuple[float, ...]:
    shares = tuple(float(part) for part in text.split(","))
    if len(shares) != len(PRIORITIES) or min(shares) < 0 or sum(shares) <= 0:
        raise argparse.ArgumentTypeError("give three shares, high,normal,low, for example 1,8,1")
    return tuple(share / sum(shares) for share in shares)


def try_both(plan: QueuePlan) -> Iterator[str]:
    """The table's lines of a measurement and of the simulation of the same arrivals."""
    from bench.trial import run

    with tempfile.TemporaryDirectory() as folder:
        measured = run(plan, Path(folder))
    yield "measured:"
    yield from rows(measured)
    yield "simulated, with the same arrivals:"
    yield from rows(Simulation(plan, [(call.arrived, call.priority) for call in measured.calls]).run())


def rows(done: QueueRun) -> Iterator[str]:
    """The table's lines of one plan."""
    plan = done.plan
    for priority, share in zip(PRIORITIES, plan.mix, strict=True):
        if share:
            totals = [call.total for call in done.after_warmup(priority)]
            marks = "  ".join(f"{_time(percentile(totals, at)):>8}" for at in (0.5, 0.95, 0.99))
            load = f"{plan.workers:7}  {plan.utilisation:5.0%}  {done.mean_batch:5.1f}"
            yield f"{load}  {priority:8}  {share:5.0%}  {marks}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def enough(plan: QueuePlan, target: float) -> bool:
    """Whether 99 of 100 requests of every priority end within ``target`` seconds, in a system that keeps up."""
    if plan.utilisation >= 1:
        return False
    done = Simulation(plan).run()
    wanted = [priority for priority, share in zip(PRIORITIES, plan.mix, strict=True) if share]
    return all(percentile([call.total for call in done.after_warmup(name)], 0.99) <= target for name in wanted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 when no number of workers given meets ``--target``."""
    options = vars(parser().parse_args(arguments))
    numbers, target, real = options.pop("workers"), options.pop("target"), options.pop("real")
    plans = [QueuePlan(workers=number, **options) for number in numbers]
    print(HEAD)
    for plan in plans:
        if plan.utilisation >= 1:
            print(f"{plan.workers:7}  {plan.utilisation:5.0%}  too few: the backlog grows without end")
            continue
        print("\n".join(try_both(plan) if real else rows(Simulation(plan).run())))
    if target is None:
        return 0
    fits = next((plan.workers for plan in plans if enough(plan, target)), None)
    print(f"99 of 100 within {target:g} s: " + (f"{fits} workers" if fits else "more workers than were tried"))
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
