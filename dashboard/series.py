"""The API's history as chart rows, each chart with a sentence that says the same.

A chart row has ``at`` (epoch seconds, the start of its ``step`` minutes) and one member per line. None leaves a gap: a
time without answers has no latency, and zero would be a lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.formatting import count, duration, milliseconds, percent, rate

Rows = list[dict[str, Any]]
MINUTE = 60
PERCENTILES = ("p50", "p95", "p99")
#: Final state -> its name and colour in the pie; the colours are distinguishable for colour-blind eyes.
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "succeeded": ("Succeeded", "teal.6"),
    "failed": ("Failed", "red.7"),
    "expired": ("Expired", "orange.5"),
    "canceled": ("Canceled", "gray.5"),
}


def throughput(history: Sequence[Mapping[str, Any]], now: float, step: int = 1) -> Rows:
    """Requests a second: in, answered and failed. The current row counts the seconds that have passed."""
    rows = []
    for row in history:
        span = min(MINUTE * step, max(1.0, now - row["at"]))
        events = {"in": row["accepted"], "answered": row["succeeded"], "failed": row["failed"] + row["expired"]}
        rows.append({"at": row["at"], **{name: round(value / span, 3) for name, value in events.items()}})
    return rows


def latency(history: Sequence[Mapping[str, Any]]) -> Rows:
    """p50, p95 and p99 from acceptance to the end, in milliseconds."""
    return [{"at": row["at"], **{name: _percentile(row["total"], name) for name in PERCENTILES}} for row in history]


def split(history: Sequence[Mapping[str, Any]]) -> Rows:
    """p95 of waiting and of inference, in milliseconds."""
    stages = ("queue", "infer")
    return [{"at": row["at"], **{stage: _percentile(row[stage], "p95") for stage in stages}} for row in history]


def _percentile(stage: Mapping[str, float], name: str) -> float | None:
    return milliseconds(stage[name]) if stage["count"] else None


def outcomes(ledger: Mapping[str, int]) -> Rows:
    """How requests ended since the records began: the slices of the pie."""
    slices = [(name, ledger.get(state, 0), color) for state, (name, color) in OUTCOMES.items()]
    return [{"name": name, "value": value, "color": color} for name, value, color in slices if value]


def summaries(
    history: Sequence[Mapping[str, Any]], ledger: Mapping[str, int], charts: Mapping[str, Rows], step: int = 1
) -> dict[str, str]:
    """One sentence per chart, for screen readers."""
    return {
        "throughput": _throughput_text(history, charts["throughput"], step),
        "latency": _latency_text(charts["latency"], step),
        "split": _split_text(charts["split"]),
        "outcomes": _outcomes_text(ledger),
    }


def _throughput_text(history: Sequence[Mapping[str, Any]], rows: Rows, step: int) -> str:
    total, window = sum(row["accepted"] for row in history), _minutes(len(history) * step)
    if not total:
        return f"No requests in the last {window}."
    peak = rate(max(row["in"] for row in rows)) + ("" if step == 1 else f" over {_minutes(step)}")
    return f"{count(total, 'request')} in the last {window}, at most {peak}."


def _latency_text(rows: Rows, step: int) -> str:
    newest = _newest(rows, "p95")
    if newest is None:
        return f"Nothing was answered in the last {_minutes(len(rows) * step)}."
    worst = max(row["p99"] for row in rows if row["p99"] is not None)
    percentiles = ", ".join(f"{name} {duration(newest[name] / 1000)}" for name in PERCENTILES)
    last = "minute" if step == 1 else _minutes(step)
    return f"Last {last} with answers: {percentiles}. Worst p99: {duration(worst / 1000)}."


def _split_text(rows: Rows) -> str:
    newest = _newest(rows, "infer")
    if newest is None:
        return "No inference in this time."
    waited = duration(None if newest["queue"] is None else newest["queue"] / 1000)
    return f"95 of 100 waited at most {waited} and were inferred within {duration(newest['infer'] / 1000)}."


def _outcomes_text(ledger: Mapping[str, int]) -> str:
    slices = outcomes(ledger)
    if not slices:
        return "No request has ended yet."
    ended = sum(one["value"] for one in slices)
    parts = ", ".join(f"{one['value']:,} {one['name'].lower()}" for one in slices)
    return f"Of {count(ended, 'request')}: {parts} ({percent(ledger.get('succeeded', 0) / ended)} succeeded)."


def _newest(rows: Rows, line: str) -> dict[str, Any] | None:
    return next((row for row in reversed(rows) if row[line] is not None), None)


def _minutes(minutes: int) -> str:
    return f"{minutes // 60} hours" if minutes > 60 and minutes % 60 == 0 else count(minutes, "minute")
