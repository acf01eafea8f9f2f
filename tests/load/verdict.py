"""What came of a load test: numbers, per model and priority too, and whether they are within the limits."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from inferlane.console import Exit
from inferlane.traffic import Account, Ended, percentile

BARS = 20
AWAY = frozenset({"unreachable", "broker_unavailable"})


@dataclass(frozen=True)
class Verdict:
    """The numbers as a JSON object, the reasons why they are not good enough, and the exit code."""

    document: dict[str, Any]
    reasons: tuple[str, ...]
    exit: Exit


def judge(account: Account, ended: Sequence[Ended], limits: argparse.Namespace) -> Verdict:
    """Hold ``account`` against ``--max-error-rate`` and ``--max-p95``."""
    document = {
        **account.document(),
        "error_rate": error_rate(account),
        "histogram": histogram(account.latencies),
        "groups": {kind: groups(ended, kind) for kind in ("model", "priority")},
        "workers": dict(Counter(one.result.worker_id for one in ended if one.result)),
        "weights": dict(Counter(one.result.weights for one in ended if one.result)),
    }
    reasons = tuple(_reasons(account, limits))
    document["reasons"] = list(reasons)
    return Verdict(document, reasons, _exit(account, reasons))


def error_rate(account: Account) -> float:
    """The share of requests that have no right answer, those that could not be sent included."""
    total = account.sent + account.unsent
    return 1 - len(account.latencies) / total if total else 1.0


def histogram(latencies: Iterable[float]) -> list[dict[str, float]]:
    """Bars of equal width from the shortest to the longest of ``latencies``, in seconds."""
    values = sorted(latencies)
    if not values:
        return []
    width = (values[-1] - values[0]) / BARS or values[-1] / BARS or 1e-9
    counts = Counter(min(BARS - 1, int((value - values[0]) / width)) for value in values)
    return [{"from": values[0] + n * width, "to": values[0] + (n + 1) * width, "count": counts[n]} for n in range(BARS)]


def groups(ended: Iterable[Ended], kind: str) -> dict[str, dict[str, Any]]:
    """Numbers for each model or priority that was asked for."""
    accounts: dict[str, Account] = {}
    for one in ended:
        accounts.setdefault(str(one.shot.parameters[kind]), Account()).add(one)  # type: ignore[literal-required]
    return {
        name: {
            "sent": account.sent,
            "succeeded": len(account.latencies),
            "p50": percentile(sorted(account.latencies), 0.5),
            "p95": percentile(sorted(account.latencies), 0.95),
        }
        for name, account in sorted(accounts.items())
    }


def _reasons(account: Account, limits: argparse.Namespace) -> Iterable[str]:
    rate, p95 = error_rate(account), percentile(sorted(account.latencies), 0.95)
    if p95 is None:
        yield "not one right answer"
    if rate > limits.max_error_rate:
        yield f"{rate:.1%} of the requests have no right answer, at most {limits.max_error_rate:.1%} may"
    if limits.max_p95 and p95 is not None and p95 > limits.max_p95:
        yield f"the 95th percentile is {p95:.3f} s, at most {limits.max_p95:.3f} s may it be"


def _exit(account: Account, reasons: Sequence[str]) -> Exit:
    if not reasons:
        return Exit.OK
    nobody = not account.latencies and account.errors and set(account.errors) <= AWAY
    return Exit.UNREACHABLE if nobody else Exit.FAILED
