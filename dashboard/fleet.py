"""What became of workers and what operators did, as table rows, log lines and marks on the charts. Pure functions.

Three ways not to be there, and they are never mixed up: *stale* shows no sign of life and nobody has taken over yet,
*left* said goodbye and gave back what it had, *lost* died or vanished and what it had in hand went to others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboard.text import count, epoch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Seconds for which a worker that has gone is still shown.
SHOWN = 600.0
MINUTE = 60
#: What happens to a worker: the sign of its mark, and how bad it is.
SIGNS: Mapping[str, tuple[str, str]] = {"joined": ("+", "ok"), "left": ("\u2212", "none"), "lost": ("✕", "bad")}
ORDER = ("!", "warn")
SEVERITY = ("none", "ok", "warn", "bad")


def departed(snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The workers that are not there any more, the newest first; those that are back are not listed."""
    now = epoch(snapshot["as_of"]) or 0.0
    back = {worker["id"] for worker in snapshot["workers"]}
    found = {worker["id"]: _stale(worker) for worker in snapshot["silent"] if worker["id"] not in back}
    for event in snapshot["fleet_events"]:
        row = _gone(event)
        if now - row["at"] < SHOWN and event["worker"] not in back and event["worker"] not in found:
            found[event["worker"]] = row
    return sorted((row for row in found.values() if row["state"] != "joined"), key=lambda row: -row["at"])


def _stale(worker: Mapping[str, Any]) -> dict[str, Any]:
    held = worker["in_flight"]
    more = f"; the {count(held, 'request')} it has wait until another worker notices" if held else ""
    return {
        "id": worker["id"], "model": worker["model"], "state": "stale", "at": epoch(worker["last_heartbeat"]) or 0.0,
        "text": f"shows no sign of life{more}",
    }  # fmt: skip


def _gone(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": event["worker"], "model": event["model"], "state": event["event"], "at": epoch(event["at"]) or 0.0,
        "text": said(event),
    }  # fmt: skip


def said(event: Mapping[str, Any]) -> str:
    """What happened to a worker, in words."""
    if event["event"] == "joined":
        return "is there"
    if event["event"] == "left":
        return "said goodbye"
    held = event["held"]
    return (
        f"was lost with {count(held, 'request')} in hand: others got them" if held else "was lost with nothing in hand"
    )


def activity(snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Orders of operators and events of the fleet as one log, newest first."""
    orders = [{"at": epoch(line["at"]), "what": line["what"], "who": line["who"]} for line in snapshot["activity"]]
    events = [
        {"at": epoch(event["at"]), "what": f"worker {event['worker']} ({event['model']}) {said(event)}", "who": ""}
        for event in snapshot["fleet_events"]
    ]
    return sorted([*orders, *events], key=lambda line: -(line["at"] or 0.0))


def marks(snapshot: Mapping[str, Any], history: Sequence[Mapping[str, Any]], step: int = 1) -> list[dict[str, Any]]:
    """One mark per row of ``history`` in whose time something was ordered or a worker came or went, oldest first.

    A mark has ``at`` (epoch, the start of the row's ``step`` minutes), ``label`` (a sign per kind), ``level`` and
    ``text``.
    """
    span = MINUTE * step
    rows: dict[int, list[tuple[str, str, str]]] = {row["at"]: [] for row in history}
    for at, sign, level, text in _happenings(snapshot):
        rows.get(int(at // span) * span, []).append((sign, level, text))
    return [_mark(at, found) for at, found in rows.items() if found]


def _happenings(snapshot: Mapping[str, Any]) -> Iterator[tuple[float, str, str, str]]:
    for event in reversed(snapshot["fleet_events"]):
        yield epoch(event["at"]) or 0.0, *SIGNS[event["event"]], f"{event['worker']} {said(event)}"
    for line in reversed(snapshot["activity"]):
        yield epoch(line["at"]) or 0.0, *ORDER, line["what"]


def _mark(at: int, found: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    signs = "".join(dict.fromkeys(sign for sign, _, _ in found))
    worst = max((level for _, level, _ in found), key=SEVERITY.index)
    return {"at": at, "label": signs, "level": worst, "text": "; ".join(text for _, _, text in found)}
