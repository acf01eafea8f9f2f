"""The API's history as chart rows, each with a sentence that says the same. Pure functions.

A chart row has ``at`` (epoch seconds, the start of its minute or minutes) and one member per line; None leaves a gap,
because a time without answers has no latency, and zero would be a lie. ``step`` is how many minutes a row tells of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboard.text import count, duration, percent, rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Rows = list[dict[str, Any]]
MINUTE = 60


def throughput(history: Sequence[Mapping[str, Any]], now: float, step: int = 1) -> Rows:
    """Requests a second in, answered and failed; what still runs counts for the seconds it has had."""
    rows = []
    for row in history:
        span = min(MINUTE * step, max(1.0, now - row["at"]))
        failed = row["failed"] + row["expired"]
        events = {"in": row["accepted"], "answered": row["succeeded"], "failed": failed}
        rows.append({"at": row["at"], **{name: round(value / span, 3) for name, value in events.items()}})
    return rows


def latency(history: Sequence[Mapping[str, Any]]) -> Rows:
    """p50, p95 and p99 from acceptance to the end, in milliseconds."""
    return [{"at": row["at"], **_quantiles(row["total"], ("p50", "p95", "p99"))} for row in history]


def split(history: Sequence[Mapping[str, Any]]) -> Rows:
    """Where the time goes: p95 of waiting and of inference, in milliseconds."""
    return [
        {
            "at": row["at"],
            "queue": _quantiles(row["queue"], ("p95",))["p95"],
            "infer": _quantiles(row["infer"], ("p95",))["p95"],
        }
        for row in history
    ]


def _quantiles(stage: Mapping[str, float], names: Sequence[str]) -> dict[str, float | None]:
    return {name: round(stage[name] * 1000, 1) if stage["count"] else None for name in names}


#: Ledger state -> (its name in the pie, its colour: distinguishable for colour-blind eyes).
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "succeeded": ("Succeeded", "teal.6"),
    "failed": ("Failed", "red.7"),
    "expired": ("Expired", "orange.5"),
    "canceled": ("Canceled", "gray.5"),
}


def outcomes(ledger: Mapping[str, int]) -> Rows:
    """How requests ended, since the records began: the slices of the pie."""
    return [
        {"name": name, "value": ledger.get(state, 0), "color": color}
        for state, (name, color) in OUTCOMES.items()
        if ledger.get(state, 0)
    ]


def summaries(
    history: Sequence[Mapping[str, Any]], ledger: Mapping[str, int], rows: Mapping[str, Rows], step: int = 1
) -> dict[str, str]:
    """One sentence per chart, for who does not see it."""
    return {
        "throughput": _throughput_text(history, rows["throughput"], step),
        "latency": _latency_text(history, rows["latency"], step),
        "split": _split_text(rows["split"]),
        "outcomes": _outcomes_text(ledger),
    }


def _throughput_text(history: Sequence[Mapping[str, Any]], rows: Rows, step: int) -> str:
    total = sum(row["accepted"] for row in history)
    if not total:
        return f"No requests in the last {_time(len(history) * step)}."
    peak = max(row["in"] for row in rows)
    return f"{count(total, 'request')} in the last {_time(len(history) * step)}, at most {rate(peak)} in {_each(step)}."


def _time(minutes: int) -> str:
    return f"{minutes // 60} hours" if minutes > 60 and minutes % 60 == 0 else f"{minutes} minutes"


def _each(step: int) -> str:
    return "a minute" if step == 1 else _time(step)


def _latency_text(history: Sequence[Mapping[str, Any]], rows: Rows, step: int) -> str:
    newest = next((row for row in reversed(rows) if row["p95"] is not None), None)
    if newest is None:
        return f"Nothing was answered in the last {_time(len(history) * step)}."
    worst = max(row["p99"] for row in rows if row["p99"] is not None)
    halves = ", ".join(f"{name} {duration(newest[name] / 1000)}" for name in ("p50", "p95", "p99"))
    return f"Last {'minute' if step == 1 else _time(step)} with answers: {halves}. Worst p99: {duration(worst / 1000)}."


def _split_text(rows: Rows) -> str:
    newest = next((row for row in reversed(rows) if row["infer"] is not None), None)
    if newest is None:
        return "Nothing has been inferred in this time."
    waited = duration(newest["queue"] / 1000 if newest["queue"] is not None else None)
    return f"95 of 100 waited at most {waited} and were inferred within {duration(newest['infer'] / 1000)}."


def _outcomes_text(ledger: Mapping[str, int]) -> str:
    ended = sum(ledger.get(state, 0) for state in OUTCOMES)
    if not ended:
        return "No request has ended yet."
    parts = [f"{ledger[state]:,} {name.lower()}" for state, (name, _) in OUTCOMES.items() if ledger.get(state)]
    return (
        f"Of {count(ended, 'request')}: {', '.join(parts)} ({percent(ledger.get('succeeded', 0) / ended)} succeeded)."
    )
