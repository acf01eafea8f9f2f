"""The document of the page, computed from one snapshot of the API: status, tiles, charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboard import events, rows, series
from dashboard.formatting import count, duration, epoch, percent, rate
from dashboard.status import RECENT, recent_latency, verdict

#: Window of the charts in minutes -> minutes per point.
WINDOWS: Mapping[int, int] = {15: 1, 60: 1, 6 * 60: 5, 24 * 60: 15}
#: Minutes of history in a snapshot; the page asks for longer windows separately.
SNAPSHOT_MINUTES = 60


def view(snapshot: Mapping[str, Any], *, late_after: float) -> dict[str, Any]:
    """The whole page as JSON.

    Args:
        snapshot: the body of ``/ops/snapshot``.
        late_after: seconds after which a heartbeat is late.
    """
    windows = [minutes for minutes in WINDOWS if minutes <= SNAPSHOT_MINUTES]
    return {
        "as_of": epoch(snapshot["as_of"]),
        "verdict": verdict(snapshot),
        "chips": chips(snapshot),
        "tiles": tiles(snapshot),
        "charts": {str(minutes): charts(snapshot, snapshot["history"][-minutes:]) for minutes in windows},
        "lanes": rows.lanes(snapshot),
        "workers": rows.workers(snapshot, late_after),
        "owners": rows.owners(snapshot),
        "everybody": any(row["owner"] == rows.ANONYMOUS for row in snapshot["owners"]),  # a user sees one row
        "models": rows.models(snapshot),
        "random": sorted({worker["model"] for worker in snapshot["workers"] if worker["weights"] == "random"}),
        "requests": [rows.request_row(each) for each in snapshot["requests"]],
        "paused": [
            {"lane": lane, "by": pause.get("by", "?"), "at": pause.get("at")}
            for lane, pause in sorted(snapshot["paused"].items())
        ],
        "activity": events.activity(snapshot),
        "counters": events.counters(snapshot),
        "departed": events.departed(snapshot),
        **{name: snapshot[name] for name in ("dead_letters", "ledger", "chaos_enabled")},
    }


def chips(snapshot: Mapping[str, Any]) -> list[dict[str, str]]:
    """The small facts beside the status."""
    workers, dead = snapshot["workers"], snapshot["dead_letters"]
    draining = sum(worker["state"] == "draining" for worker in workers)
    shown = count(len(workers), "worker") + (f", {draining} draining" if draining else "")
    facts = (
        ("Redis", "up", "ok"),
        ("API", f"up {duration(snapshot['uptime'])}", "ok"),
        ("Workers", shown, "ok" if len(workers) > draining else "bad"),
        ("Waiting", count(snapshot["ledger"].get("queued", 0), "request"), "ok"),
        ("Dead letters", str(dead), "warn" if dead else "ok"),
    )
    return [{"label": label, "text": text, "level": level} for label, text, level in facts]


def tiles(snapshot: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rate, errors, duration."""
    total, queue, infer = (recent_latency(snapshot["history"], stage) for stage in ("total", "queue", "infer"))
    spread = f"p50 {duration(total['p50'])}, p99 {duration(total['p99'])}" if total else "no answers yet"
    facts = (
        ("Requests in", rate(_summed(snapshot, "rate_in")), "accepted, last minute"),
        ("Requests done", rate(_summed(snapshot, "rate_out")), "ended, last minute"),
        ("Errors", percent(error_share(snapshot["history"][-RECENT:])), f"of requests ended in {RECENT} minutes"),
        ("p95 latency", _p95(total), spread),
        ("p95 waiting", _p95(queue), "in the lane"),
        ("p95 inference", _p95(infer), "the forward pass"),
    )
    return [{"name": name, "value": value, "hint": hint} for name, value, hint in facts]


def _p95(stage: Mapping[str, float] | None) -> str:
    return duration(stage["p95"] if stage else None)


def error_share(history: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of failed and expired requests among those not canceled; None if none ended."""
    bad = sum(row["failed"] + row["expired"] for row in history)
    ended = bad + sum(row["succeeded"] for row in history)
    return bad / ended if ended else None


def charts(snapshot: Mapping[str, Any], history: Sequence[Mapping[str, Any]], step: int = 1) -> dict[str, Any]:
    """Rows, marks and sentences of every chart; each row of ``history`` spans ``step`` minutes."""
    drawn = {
        "throughput": series.throughput(history, epoch(snapshot["as_of"]) or 0.0, step),
        "latency": series.latency(history),
        "split": series.split(history),
        "outcomes": series.outcomes(snapshot["ledger"]),
        "marks": events.marks(snapshot, history, step),
    }
    return {**drawn, "summaries": series.summaries(history, snapshot["ledger"], drawn, step)}


def _summed(snapshot: Mapping[str, Any], name: str) -> float:
    return float(sum(owner[name] for owner in snapshot["owners"]))
