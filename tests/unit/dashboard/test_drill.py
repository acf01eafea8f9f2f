"""The drill's verdict is what the requests' own timelines say."""

from __future__ import annotations

from dashboard.drill import DrillResult
from tests.unit.dashboard.samples import request

DIED = [{"event": "accepted"}, {"event": "started"}, {"event": "worker_died"}, {"event": "succeeded"}]


def test_a_request_started_twice_or_taken_from_a_dead_worker_was_redelivered() -> None:
    found = DrillResult.of([request(), request(attempts=2), request(timeline=DIED)])
    assert found == DrillResult(sent=3, succeeded=3, redelivered=2, open=0)
    assert str(found) == "2 redelivered, 0 lost"


def test_what_ended_without_an_answer_is_lost() -> None:
    assert DrillResult.of([request("failed"), request("expired"), request()]).lost == 2


def test_what_has_not_ended_is_neither_lost_nor_forgotten() -> None:
    found = DrillResult.of([request("queued"), request("running"), request()])
    assert (found.lost, found.open) == (0, 2)
    assert str(found) == "0 redelivered, 0 lost, 2 still waiting"
