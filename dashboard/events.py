"""Workers that are gone, the activity log, and the marks on the charts.

A *stale* worker misses heartbeats and nobody has taken over yet, one that has *left* shut down in order, a *lost* one
died or vanished and other workers took over its requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.formatting import count, epoch

Row = dict[str, Any]
#: Seconds for which a departed worker is shown.
SHOWN = 600.0
MINUTE = 60
#: Event of a worker -> its sign in the charts and its level.
SIGNS: Mapping[str, tuple[str, str]] = {"joined": ("+", "ok"), "left": ("\u2212", "none"), "lost": ("✕", "bad")}
#: What an operator called -> what that did, with what :func:`_told` knows; a fault has its own words.
ORDERS: Mapping[str, str] = {
    r"POST /admin/lanes/(.+)/pause": "paused lane {}",
    r"POST /admin/lanes/(.+)/resume": "resumed lane {}",
    r"POST /admin/lanes/(.+)/purge": "purged lane {}",
    r"POST /admin/workers/(.+)/drain": "drained {}",
    r"POST /admin/workers/(.+)/resume": "resumed {}",
    r"POST /admin/workers/(.+)/restart": "restarted {}",
    r"POST /admin/models/(.+)/scale": "scaled {} to {workers}",
    r"POST /admin/keys()": "created the {role} key {id}{of}{allowed}",
    r"PATCH /admin/keys/(.+)": "gave the key {}{of} the role {role}",
    r"DELETE /admin/keys/(.+)": "revoked the key {}{of}",
    r"PATCH /admin/owners/(.+)": "changed the allowances of {}{allowed}",
    r"POST /dead_letters/(.+)/requeue": "requeued dead letter {}",
    r"DELETE /dead_letters/(.+)": "deleted dead letter {}",
}
FAULT = re.compile(r"POST /admin/workers/(.+)/chaos")
FAULTS: Mapping[str, tuple[str, str]] = {
    "slow": ("slowed {}", " by "),
    "freeze": ("froze {}", " for "),
    "crash": ("killed {}", ""),
    "exit": ("ended {} in its next forward pass", ""),
    "hang": ("made the next forward pass of {} hang", ""),
    "error": ("made forward passes of {} fail", ""),
    "drop": ("cut the connections of {} to Redis", ""),
    "off": ("ended the faults of {}", ""),
}
#: The counters shown, in this order.
COUNTERS = (
    "succeeded",
    "failed",
    "expired",
    "canceled",
    "refused",
    "retried",
    "redelivered",
    "dead_lettered",
    "requeued",
)
LEVELS = ("none", "ok", "warn", "bad")


def departed(snapshot: Mapping[str, Any]) -> list[Row]:
    """Departed workers that have not come back, newest first."""
    now = epoch(snapshot["as_of"]) or 0.0
    live = {worker["id"] for worker in snapshot["workers"]}
    found = {worker["id"]: _stale(worker) for worker in snapshot["silent"]}
    for event in snapshot["fleet_events"]:
        row = _gone(event)
        if now - row["at"] < SHOWN:
            found.setdefault(row["id"], row)
    rows = [row for row in found.values() if row["id"] not in live and row["state"] != "joined"]
    return sorted(rows, key=lambda row: -row["at"])


def _stale(worker: Mapping[str, Any]) -> Row:
    held = worker["in_flight"]
    text = "has stopped sending heartbeats" + (f"; it holds {count(held, 'request')}" if held else "")
    at = epoch(worker["last_heartbeat"]) or 0.0
    return {"id": worker["id"], "model": worker["model"], "state": "stale", "at": at, "text": text}


def _gone(event: Mapping[str, Any]) -> Row:
    at = epoch(event["at"]) or 0.0
    return {"id": event["worker"], "model": event["model"], "state": event["event"], "at": at, "text": text_of(event)}


def text_of(event: Mapping[str, Any]) -> str:
    """An event of a worker in words."""
    if event["event"] != "lost":
        return {"joined": "joined", "left": "shut down"}[event["event"]]
    held = event["held"]
    return f"was lost with {count(held, 'request')}; other workers took over" if held else "was lost without requests"


def activity(snapshot: Mapping[str, Any]) -> list[Row]:
    """Orders of operators and events of workers as one log, newest first, each with the sign and level of its mark."""
    lines = [
        {"at": epoch(line["at"]) or 0.0, "what": _order(line), "sign": "!", "level": "warn"}
        for line in snapshot["activity"]
    ]
    for event in snapshot["fleet_events"]:
        sign, level = SIGNS[event["event"]]
        what = f"worker {event['worker']} ({event['model']}) {text_of(event)}"
        lines.append({"at": epoch(event["at"]) or 0.0, "what": what, "sign": sign, "level": level})
    return sorted(lines, key=lambda line: -line["at"])


def _order(line: Mapping[str, Any]) -> str:
    """Who did what, as a sentence; an unknown call is quoted."""
    call, _, members = line["what"].partition(" {")
    who = line["who"] or "somebody"
    try:
        order = json.loads("{" + members) if members else {}
    except ValueError:  # the log cuts long lines off
        order = {}
    for pattern, words in ORDERS.items():
        if found := re.fullmatch(pattern, call):
            return f"{who} {words.format(found[1], **_told(order))}"
    if found := FAULT.fullmatch(call):
        return f"{who} {_fault(found[1], order)}"
    return f"{who} called {line['what']}"


def _told(order: Mapping[str, Any]) -> dict[str, str]:
    """The members of an order in words; entries of earlier releases lack some."""
    name, workers = order.get("name"), order.get("workers")
    allowed = ", ".join(f"{what} {_allowance(order[what])}" for what in ("weight", "cap", "quota") if what in order)
    return {
        "id": order.get("id", ""),
        "of": f" of {name}" if name else "",
        "role": order.get("role", "user"),
        "workers": count(workers, "worker") if isinstance(workers, int) else "another number of workers",
        "allowed": f": {allowed}" if allowed else "",
    }


def _allowance(value: float | None) -> str:
    return "as in the settings" if value is None else f"{value:,}" if value else "unlimited"


def _fault(worker: str, order: Mapping[str, Any]) -> str:
    words, joint = FAULTS.get(order.get("mode", ""), ("injected a fault into {}", ""))
    seconds = order.get("seconds")
    return words.format(worker) + (f"{joint}{seconds:g} s" if joint and isinstance(seconds, int | float) else "")


def counters(snapshot: Mapping[str, Any]) -> str:
    """The counters since the records began, without zeros."""
    numbers = {**snapshot["ledger"], **snapshot["counters"]}
    told = [f"{numbers[name]:,} {name.replace('_', ' ')}" for name in COUNTERS if numbers.get(name)]
    if lost := numbers.get("workers_lost"):
        told.append(f"{count(lost, 'worker')} lost")
    since = "Since the records began" if "accepted" in numbers else "In the last 35 days"  # a user's are of usage
    return f"{since}: {', '.join(told)}." if told else "No request has ended yet."


def marks(snapshot: Mapping[str, Any], history: Sequence[Mapping[str, Any]], step: int = 1) -> list[Row]:
    """The marks on the charts, oldest first: at most one per row of ``history``, which spans ``step`` minutes.

    ``label`` has a sign per kind of event, ``level`` is that of the worst.
    """
    span = MINUTE * step
    marked: dict[int, list[Row]] = {row["at"]: [] for row in history}
    for line in reversed(activity(snapshot)):
        marked.get(int(line["at"] // span) * span, []).append(line)
    return [_mark(at, lines) for at, lines in marked.items() if lines]


def _mark(at: int, lines: Sequence[Row]) -> Row:
    signs = dict.fromkeys(line["sign"] for line in lines)
    level = max((line["level"] for line in lines), key=LEVELS.index)
    return {"at": at, "label": "".join(signs), "level": level, "text": "; ".join(line["what"] for line in lines)}
