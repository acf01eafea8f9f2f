"""Stale, left and lost workers are told apart, and each is reported once."""

from __future__ import annotations

from typing import Any

from dashboard import events
from tests.unit.dashboard.samples import START, snapshot, worker


def event(kind: str, name: str, minute: int = 59, held: int = 0) -> dict[str, Any]:
    return {"at": f"2027-01-15T08:{minute:02}:10.000Z", "event": kind, "worker": name, "model": "toy", "held": held}


def states(**changes: Any) -> dict[str, str]:
    return {row["id"]: row["state"] for row in events.departed(snapshot(workers=[], **changes))}


def test_stale_left_and_lost_are_told_apart() -> None:
    told = states(silent=[worker("a", in_flight=2)], fleet_events=[event("lost", "b", held=3), event("left", "c")])
    assert told == {"a": "stale", "b": "lost", "c": "left"}


def test_a_lost_worker_says_how_many_requests_it_held() -> None:
    found = events.departed(snapshot(workers=[], fleet_events=[event("lost", "b", held=1), event("lost", "c")]))
    texts = {row["id"]: row["text"] for row in found}
    assert texts["b"] == "was lost with 1 request; other workers took over"
    assert texts["c"] == "was lost without requests"


def test_who_is_back_is_not_shown_as_gone() -> None:
    body = snapshot(workers=[worker("a")], fleet_events=[event("lost", "a")], silent=[worker("a")])
    assert events.departed(body) == []


def test_only_the_last_thing_that_happened_to_a_worker_counts() -> None:
    assert states(fleet_events=[event("left", "a", 58), event("lost", "a", 57)]) == {"a": "left"}
    assert states(fleet_events=[event("joined", "a", 58), event("lost", "a", 57)]) == {}


def test_the_gone_are_hidden_after_ten_minutes() -> None:
    assert states(fleet_events=[event("left", "new", 50), event("left", "old", 49)]) == {"new": "left"}


def test_the_log_has_orders_and_events_of_workers_newest_first() -> None:
    lines = events.activity(snapshot(fleet_events=[event("joined", "a", 58)]))
    assert [line["what"] for line in lines] == ["POST /admin/lanes/normal/pause", "worker a (toy) joined"]


def test_a_mark_stands_at_its_minute_and_shows_the_worst_of_it() -> None:
    body = snapshot(
        activity=[], fleet_events=[event("lost", "a", 40, 2), event("joined", "b", 40), event("left", "c", 41)]
    )
    first, second = events.marks(body, body["history"])
    assert (first["at"], first["label"], first["level"]) == (START + 40 * 60, "+✕", "bad")
    assert first["text"] == "worker b (toy) joined; worker a (toy) was lost with 2 requests; other workers took over"
    assert (second["at"], second["level"]) == (START + 41 * 60, "none")


def test_what_happened_before_the_chart_begins_leaves_no_mark() -> None:
    body = snapshot(activity=[], fleet_events=[event("lost", "a", 10)])
    assert events.marks(body, body["history"][-15:]) == []
