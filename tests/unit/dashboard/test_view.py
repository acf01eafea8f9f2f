from __future__ import annotations

import json

from dashboard import rows
from dashboard.view import error_share, view
from tests.unit.dashboard.samples import lane, minute, request, snapshot, worker


def test_the_view_is_json_and_small_enough_to_send_each_second() -> None:
    body = snapshot(requests=[request() for _ in range(50)], workers=[worker(f"w{n}@host") for n in range(50)])
    assert len(json.dumps(view(body, late_after=1.5))) < 80_000


def test_error_share_counts_what_failed_or_expired_among_what_ended() -> None:
    assert error_share([minute(1, succeeded=6, failed=1, expired=1, canceled=5)]) == 0.25
    assert error_share([minute(1)]) is None


def test_tiles_tell_the_rates_of_all_lanes_together() -> None:
    tiles = {tile["name"]: tile["value"] for tile in view(snapshot(), late_after=1.5)["tiles"]}
    assert (tiles["Requests in"], tiles["Requests done"], tiles["Errors"]) == ("1/s", "30 a minute", "\u2013")


def test_a_worker_that_misses_heartbeats_is_stale() -> None:
    quiet = worker("quiet@host", last_heartbeat="2027-01-15T08:59:28.000Z")
    shown = rows.workers(snapshot(workers=[worker(), quiet]), late_after=1.5)
    assert [row["state"] for row in shown] == ["idle", "stale"]


def test_random_weights_are_flagged_wherever_they_appear() -> None:
    shown = view(snapshot(workers=[worker(weights="random")]), late_after=1.5)
    assert shown["random"] == ["resnet18"]
    assert shown["workers"][0]["random"]
    assert shown["models"][0]["random"]


def test_lanes_of_models_without_workers_are_quiet_unless_something_waits_or_is_paused() -> None:
    listed = [lane("low.mobilenet"), lane("high.mobilenet", depth=3), lane("normal.mobilenet", paused=True), lane()]
    shown = rows.lanes(snapshot(lanes=listed))
    assert [row["quiet"] for row in shown] == [True, False, False, False]


def test_a_failed_request_shows_its_error_where_an_answer_would_be() -> None:
    failed = request("failed", predictions=[], error={"code": "truncated_image", "message": "ends early"})
    good, bad = rows.request_row(request()), rows.request_row(failed)
    assert (good["answer"], bad["answer"]) == ("tabby (62%)", "truncated_image")
    assert bad["shown"] == "✕ failed"
    assert good["queue"] == 4.2


def test_a_paused_lane_says_who_paused_it_and_when() -> None:
    shown = view(snapshot(paused={"low": {"by": "admin", "at": 1.0}}), late_after=1.5)
    assert shown["paused"] == [{"lane": "low", "by": "admin", "at": 1.0}]
