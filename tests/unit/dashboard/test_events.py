"""Stale workers, workers that left and lost ones are different events, each reported once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api.app import create_app
from common.settings import load_settings
from dashboard import events
from tests.support.roles import roles
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
    assert [line["what"] for line in lines] == ["admin paused lane normal", "worker a (toy) joined"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ('POST /admin/lanes/low.toy/purge {"confirm": "low.toy"}', "admin purged lane low.toy"),
        ("POST /admin/workers/toy-1@host/restart", "admin restarted toy-1@host"),
        ('POST /admin/workers/toy-1@host/chaos {"mode": "slow", "seconds": 2.0}', "admin slowed toy-1@host by 2 s"),
        ('POST /admin/workers/toy-1@host/chaos {"mode": "crash"}', "admin killed toy-1@host"),
        ('POST /admin/workers/toy-1@host/chaos {"mode": "cut o', "admin injected a fault into toy-1@host"),
        (
            'POST /admin/workers/toy-1@host/chaos {"mode": "error", "rate": 0.5}',
            "admin made forward passes of toy-1@host fail",
        ),
        ('POST /admin/models/toy/scale {"workers": 3}', "admin scaled toy to 3 workers"),
        ('POST /admin/models/toy/scale {"workers": 1}', "admin scaled toy to 1 worker"),
        ('POST /admin/keys {"name": "ann", "id": "0a1b"}', "admin created the user key 0a1b of ann"),
        (
            'POST /admin/keys {"name": "eve", "role": "admin", "weight": 2, "id": "0a1b"}',
            "admin created the admin key 0a1b of eve: weight 2",
        ),
        ('PATCH /admin/keys/0a1b {"role": "admin", "name": "ann"}', "admin gave the key 0a1b of ann the role admin"),
        ('DELETE /admin/keys/0a1b {"name": "ann"}', "admin revoked the key 0a1b of ann"),
        ("DELETE /admin/keys/0a1b", "admin revoked the key 0a1b"),
        (
            'PATCH /admin/owners/ann {"cap": null, "quota": 20000}',
            "admin changed the allowances of ann: cap as in the settings, quota 20,000",
        ),
        ('PATCH /admin/owners/ann {"quota": 0}', "admin changed the allowances of ann: quota unlimited"),
        ("DELETE /dead_letters/id-1", "admin deleted dead letter id-1"),
        ("POST /admin/something/new", "admin called POST /admin/something/new"),
    ],
)
def test_an_order_is_told_as_a_sentence(what: str, told: str) -> None:
    body = snapshot(activity=[{"at": "2027-01-15T08:59:00.000Z", "what": what, "who": "admin"}])
    assert [line["what"] for line in events.activity(body)] == [told]


@pytest.mark.parametrize(
    ("method", "path"),
    [route for route, role in roles(create_app(load_settings({}))).items() if role == "admin" and route[0] != "GET"],
)
def test_no_order_of_the_api_is_quoted_as_a_call(method: str, path: str) -> None:
    line = {"at": "2027-01-15T08:59:00.000Z", "what": f"{method} {re.sub('<.*?>', 'x', path)}", "who": "admin"}
    (told,) = events.activity(snapshot(activity=[line]))
    assert "called" not in told["what"]


def test_only_counters_that_count_something_are_told() -> None:
    counters = {"redelivered": 2, "retried": 0, "fenced": 3, "workers_lost": 1}
    told = events.counters(snapshot(ledger={"accepted": 1203, "succeeded": 1200, "queued": 3}, counters=counters))
    assert told == "Since the records began: 1,200 succeeded, 2 redelivered, 1 worker lost."
    assert events.counters(snapshot(ledger={}, counters={})) == "No request has ended yet."


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
