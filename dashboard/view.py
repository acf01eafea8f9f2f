"""What the page shows, computed from one snapshot of the API: verdict, tiles, charts and tables in one document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboard import fleet, rows, series
from dashboard.text import count, duration, epoch, percent, rate
from dashboard.verdict import recent_latency, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The windows the charts offer, in minutes, and how many minutes a point of each tells of.
WINDOWS: Mapping[int, int] = {15: 1, 60: 1, 6 * 60: 5, 24 * 60: 15}
#: Minutes that a snapshot brings along; longer windows are asked for by whoever looks at one.
BROUGHT = 60


def view(snapshot: Mapping[str, Any], *, late_after: float) -> dict[str, Any]:
    """The whole page as JSON.

    Args:
        snapshot: the body of ``/ops/snapshot``.
        late_after: seconds after which a heartbeat is late.
    """
    return {
        "as_of": epoch(snapshot["as_of"]),
        "verdict": verdict(snapshot).document(),
        "chips": chips(snapshot),
        "tiles": tiles(snapshot),
        "charts": {
            str(minutes): charts(snapshot, snapshot["history"][-minutes:]) for minutes in WINDOWS if minutes <= BROUGHT
        },
        "lanes": rows.lanes(snapshot),
        "workers": rows.workers(snapshot, late_after),
        "models": rows.models(snapshot),
        "random": sorted({worker["model"] for worker in snapshot["workers"] if worker["weights"] == "random"}),
        "requests": rows.requests(snapshot["requests"]),
        "dead_letters": snapshot["dead_letters"],
        "paused": pauses(snapshot["paused"]),
        "activity": fleet.activity(snapshot),
        "departed": fleet.departed(snapshot),
        "counters": snapshot["counters"],
        "ledger": snapshot["ledger"],
        "chaos_enabled": snapshot["chaos_enabled"],
        "version": snapshot["version"],
    }


def chips(snapshot: Mapping[str, Any]) -> list[dict[str, str]]:
    """The small facts beside the verdict."""
    workers, queued = snapshot["workers"], snapshot["ledger"].get("queued", 0)
    draining = sum(worker["state"] == "draining" for worker in workers)
    text = count(len(workers), "worker") + (f", {draining} draining" if draining else "")
    return [
        {"label": "Redis", "text": "up", "level": "ok"},
        {"label": "API", "text": f"up {duration(snapshot['uptime'])}", "level": "ok"},
        {"label": "Workers", "text": text, "level": "ok" if len(workers) > draining else "bad"},
        {"label": "Waiting", "text": count(queued, "request"), "level": "ok"},
        {
            "label": "Dead letters",
            "text": str(snapshot["dead_letters"]),
            "level": "warn" if snapshot["dead_letters"] else "ok",
        },
    ]


def tiles(snapshot: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rate, errors, duration: what a user of the system feels."""
    total, queue, infer = (recent_latency(snapshot["history"], stage) for stage in ("total", "queue", "infer"))
    ended = snapshot["history"][-5:]
    share = error_share(ended)
    return [
        {"name": "Requests in", "value": rate(_summed(snapshot, "rate_in")), "hint": "accepted, last minute"},
        {"name": "Requests done", "value": rate(_summed(snapshot, "rate_out")), "hint": "ended, last minute"},
        {"name": "Errors", "value": percent(share), "hint": "of what ended in 5 minutes"},
        {
            "name": "p95 latency",
            "value": duration(total["p95"] if total else None),
            "hint": f"p50 {duration(total['p50'])}, p99 {duration(total['p99'])}" if total else "nothing answered yet",
        },
        {"name": "p95 waiting", "value": duration(queue["p95"] if queue else None), "hint": "in the lane"},
        {"name": "p95 inference", "value": duration(infer["p95"] if infer else None), "hint": "the forward pass"},
    ]


def error_share(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Failed and expired among what succeeded, failed or expired; None when nothing did."""
    bad = sum(row["failed"] + row["expired"] for row in history)
    ended = bad + sum(row["succeeded"] for row in history)
    return bad / ended if ended else None


def charts(snapshot: Mapping[str, Any], history: Sequence[Mapping[str, Any]], step: int = 1) -> dict[str, Any]:
    """Rows and sentences of every chart for the time of ``history``, whose rows tell of ``step`` minutes each."""
    drawn = {
        "throughput": series.throughput(history, epoch(snapshot["as_of"]) or 0.0, step),
        "latency": series.latency(history),
        "split": series.split(history),
        "outcomes": series.outcomes(snapshot["ledger"]),
    }
    drawn["marks"] = fleet.marks(snapshot, history, step)
    return {**drawn, "summaries": series.summaries(history, snapshot["ledger"], drawn, step)}


def pauses(paused: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Who paused which lane, and when."""
    return [{"lane": lane, "by": note.get("by", "?"), "at": note.get("at")} for lane, note in sorted(paused.items())]


def _summed(snapshot: Mapping[str, Any], name: str) -> float:
    return sum(lane[name] or 0.0 for lane in snapshot["lanes"])
