"""The recovery drill: kill a worker that holds requests and follow each of them to its end.

The worker is slowed down first, so that it certainly holds some. The verdict counts what the requests' own timelines
say.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dashboard import photo
from dashboard.actions import path_segment, perform
from dashboard.api_client import ApiClient, ApiError
from dashboard.runs import BackgroundRun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_REQUESTS = 64
#: Seconds between two polls, for each step before the crash, and for all requests to end.
POLL = 0.2
STEP_TIMEOUT = 15.0
END_TIMEOUT = 90.0
#: Seconds by which each forward pass of the worker is slowed down.
SLOWDOWN = 1.5
FINAL_STATES = frozenset({"succeeded", "failed", "canceled", "expired"})


class DrillFailed(RuntimeError):
    """The drill could not be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class DrillResult:
    """What the timelines of the drill's requests say.

    Attributes:
        redelivered: started more than once, or taken over from a worker that died.
        open: not ended.
    """

    sent: int
    succeeded: int
    redelivered: int
    open: int

    @classmethod
    def of(cls, requests: Sequence[Mapping[str, Any]]) -> DrillResult:
        """Count request resources."""
        again = (
            request["attempts"] > 1 or any(event["event"] == "worker_died" for event in request["timeline"])
            for request in requests
        )  # fmt: skip
        states = [request["state"] for request in requests]
        ended = sum(state in FINAL_STATES for state in states)
        return cls(len(states), states.count("succeeded"), sum(again), len(states) - ended)

    @property
    def lost(self) -> int:
        """Requests that ended without an answer."""
        return self.sent - self.succeeded - self.open

    @property
    def level(self) -> str:
        """How the page shows it."""
        return "bad" if self.lost else "warn" if self.open else "ok"

    def __str__(self) -> str:
        waiting = f", {self.open} still waiting" if self.open else ""
        return f"{self.redelivered} redelivered, {self.lost} lost{waiting}"


class Drill(BackgroundRun):
    """One drill.

    Args:
        api: called with an admin's key.
        worker: the worker to kill.
        requests: how many to send.
    """

    def __init__(self, api: ApiClient, worker: str, requests: int) -> None:
        self._api, self._worker, self._requests = api, worker, requests
        self._began = time.time()
        self._events: list[dict[str, Any]] = []
        self._verdict = self._level = ""
        super().__init__()

    def document(self) -> dict[str, Any]:
        """What has happened so far, as JSON."""
        return {
            "running": self.running, "events": list(self._events), "verdict": self._verdict, "level": self._level,
        }  # fmt: skip

    def work(self) -> None:
        """Carry it out and keep the verdict."""
        try:
            ids = self._prepare()
            self._crash()
            result = self._follow(ids)
            self._level, self._verdict = result.level, str(result)
        except (DrillFailed, ApiError) as error:
            self._level, self._verdict = "bad", f"The drill did not finish: {error}"

    def _prepare(self) -> list[str]:
        """Slow the worker down and send requests until it holds one."""
        worker = self._find()
        if worker is None:
            raise DrillFailed(f"there is no worker {self._worker}")
        self._inject("slow", seconds=SLOWDOWN)
        self._wait_until(lambda: (self._find() or {}).get("chaos") == "slow", "the worker did not slow down")
        self._log(f"{self._worker} slowed down, so that it holds requests when it dies")
        ids = [self._send(worker["model"], number) for number in range(self._requests)]
        self._log(f"{len(ids)} requests accepted for {worker['model']}")
        self._wait_until(lambda: self._holds_one_of(ids), "the worker took no request of the drill")
        return ids

    def _crash(self) -> None:
        self._inject("crash")
        self._log(f"{self._worker} ordered to crash")
        self._wait_until(lambda: self._find() is None, "the worker did not die")
        self._log("Death detected: its lease has run out")

    def _follow(self, ids: Sequence[str]) -> DrillResult:
        """Poll until every request has ended."""
        deadline = time.monotonic() + END_TIMEOUT
        noticed = False
        while True:
            result = DrillResult.of([self._request(request_id) for request_id in ids])
            if result.redelivered and not noticed:
                noticed = True
                self._log("First request redelivered")
            if not result.open:
                self._log(f"All {result.sent} requests have ended")
                return result
            if time.monotonic() > deadline:
                return result
            time.sleep(POLL)

    def _log(self, text: str) -> None:
        self._events.append({"after": round(time.time() - self._began, 2), "text": text})

    def _find(self) -> Mapping[str, Any] | None:
        workers = self._api.get("/workers/status")["workers"]
        return next((worker for worker in workers if worker["id"] == self._worker), None)

    def _inject(self, mode: str, **options: float) -> None:
        perform(self._api, {"verb": "chaos", "worker": self._worker, "mode": mode, **options})

    def _send(self, model: str, number: int) -> str:
        answer = self._api.call(
            "POST", "/inference", params={"model_type": model}, content=photo.copy(f"drill {self._began}-{number}"),
            headers={"Content-Type": photo.MEDIA_TYPE, "Prefer": "respond-async"},
        )  # fmt: skip
        return str(answer.json()["request_id"])

    def _request(self, request_id: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._api.get(f"/inference/{path_segment(request_id)}")
        return found

    def _holds_one_of(self, ids: Sequence[str]) -> bool:
        found = map(self._request, ids)
        return any(request["state"] == "running" and request["worker_id"] == self._worker for request in found)

    @staticmethod
    def _wait_until(condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + STEP_TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise DrillFailed(f"{otherwise} within {STEP_TIMEOUT:g} s")
            time.sleep(POLL)
