"""The drill's verdict is what the requests' own timelines say."""

from __future__ import annotations

import json

import httpx
import pytest

from dashboard.api_client import ApiClient
from dashboard.drill import Drill, DrillResult, FaultInPlace, PhotoDrill
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


class FaultyWorkers:
    """An API with two workers and the faults they are told to have."""

    def __init__(self, **faults: str | None) -> None:
        self.faults: dict[str, str | None] = {"a@h": None, "b@h": None} | {
            f"{name}@h": mode for name, mode in faults.items()
        }
        self.orders: list[tuple[str, str]] = []

    def __call__(self, call: httpx.Request) -> httpx.Response:
        if call.url.path == "/workers/status":
            rows = [{"id": name, "model": "m", "chaos": mode} for name, mode in self.faults.items()]
            return httpx.Response(200, json={"workers": rows})
        if call.url.path.endswith("/chaos"):
            name, mode = call.url.path.split("/")[3], json.loads(call.content)["mode"]
            self.orders.append((name, mode))
            self.faults[name] = mode
            return httpx.Response(200, json={})
        # While the drill waits for its photo to be accepted, an operator gives b another fault.
        self.faults["b@h"] = "error"
        return httpx.Response(503, json={"detail": "no"})

    @property
    def api(self) -> ApiClient:
        return ApiClient("http://api", transport=httpx.MockTransport(self))


def test_a_drill_leaves_a_worker_with_a_fault_alone() -> None:
    workers = FaultyWorkers(a="error")
    with pytest.raises(FaultInPlace, match="a@h has the fault error"):
        Drill(workers.api, "a@h", 1)
    with pytest.raises(FaultInPlace):
        PhotoDrill(workers.api, b"", "image/png", {})
    assert workers.orders == []


def test_a_drill_that_fails_ends_its_own_slowdowns_and_no_other_fault() -> None:
    workers = FaultyWorkers()
    drill = PhotoDrill(workers.api, b"", "image/png", {})
    drill.join(10)
    assert "did not finish" in drill.document()["verdict"]
    assert workers.faults == {"a@h": "off", "b@h": "error"}
