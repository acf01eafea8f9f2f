"""Recovery drills: kill a worker that holds requests and follow each of them to its end.

Workers are slowed down first, so that the victim certainly holds some. The verdict counts what the requests' own
timelines say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dashboard import photo
from dashboard.actions import path_segment, perform
from dashboard.api_client import ApiClient, ApiError
from dashboard.formatting import count
from dashboard.runs import BackgroundRun

MOST_REQUESTS = 64
#: Seconds between two polls, for each step before the crash, and for all requests to end.
POLL = 0.2
STEP_TIMEOUT = 15.0
END_TIMEOUT = 90.0
#: Seconds added to each forward pass of a slowed worker; a photo's is long enough to watch.
SLOWDOWN = 1.5
PHOTO_SLOWDOWN = 4.0
#: Seconds for which the page shows a photo's worker before killing it.
WATCHED = 1.5
#: A worker's `chaos` without a fault.
NO_FAULT = frozenset({None, "off"})
FINAL_STATES = frozenset({"succeeded", "failed", "canceled", "expired"})


class FaultInPlace(ValueError):
    """A worker already has a fault that somebody ordered, which the drill would replace."""


class DrillFailed(RuntimeError):
    """The drill could not run; the message says why."""


@dataclass(frozen=True, slots=True)
class DrillResult:
    """The outcome, counted from the timelines of the drill's requests.

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
        """As JSON for the page."""
        return "bad" if self.lost else "warn" if self.open else "ok"

    def __str__(self) -> str:
        waiting = f", {self.open} still waiting" if self.open else ""
        return f"{self.redelivered} redelivered, {self.lost} lost{waiting}"


class Drill(BackgroundRun):
    """One drill: copies of the sample photo for one worker.

    Args:
        api: called with an admin's key.
        worker: the worker to kill.
        requests: how many to send.

    Raises:
        ApiError: the API refuses to slow the worker down.
        FaultInPlace
    """

    slowdown = SLOWDOWN

    def __init__(self, api: ApiClient, worker: str, requests: int) -> None:
        self._api, self._worker, self._requests = api, worker, requests
        self._began = time.time()
        self._events: list[dict[str, Any]] = []
        self._verdict = self._level = ""
        self._slowed: list[str] = []
        candidates, workers = self._candidates(), self._workers()
        if faulty := [each for each in candidates if workers.get(each, {}).get("chaos") not in NO_FAULT]:
            named = ", ".join(f"{each} has the fault {workers[each]['chaos']}" for each in faulty)
            raise FaultInPlace(f"{named}; end it first: a drill would replace it")
        try:
            for each in candidates:
                self._slow_down(each)
        except ApiError:
            self._end_slowdowns()
            raise
        super().__init__()

    def document(self) -> dict[str, Any]:
        """The progress so far as JSON."""
        return {
            "running": self.running, "events": list(self._events), "verdict": self._verdict, "level": self._level,
        }  # fmt: skip

    def work(self) -> None:
        """Run the drill and keep the verdict."""
        try:
            ids = self._prepare()
            self._crash()
            result = self._follow(ids)
            self._level, self._verdict = result.level, str(result)
        except (DrillFailed, ApiError) as error:
            self._level, self._verdict = "bad", f"The drill did not finish: {error}"
        finally:
            self._end_slowdowns()

    def _candidates(self) -> list[str]:
        """The workers to slow down."""
        return [self._worker]

    def _prepare(self) -> list[str]:
        """Send requests until the worker holds one."""
        self._await_slowdown()
        worker = self._workers().get(self._worker)
        if worker is None:
            raise DrillFailed(f"there is no worker {self._worker}")
        ids = [
            self._send(photo.copy(f"drill {self._began}-{number}"), photo.MEDIA_TYPE, {"model_type": worker["model"]})
            for number in range(self._requests)
        ]
        self._log(f"{count(len(ids), 'request')} accepted for {worker['model']}")
        self._wait_until(lambda: self._holds_one_of(ids), "the worker took no request of the drill")
        return ids

    def _slow_down(self, worker: str) -> None:
        self._slowed.append(worker)
        self._inject(worker, "slow", seconds=self.slowdown)

    def _await_slowdown(self) -> None:
        def slow() -> bool:
            rows = self._workers()
            return all(rows.get(each, {}).get("chaos") == "slow" for each in self._slowed)

        self._wait_until(slow, "the workers did not slow down")
        self._log(f"{', '.join(self._slowed)} slowed down, so that requests are held when the worker dies")

    def _end_slowdowns(self) -> None:
        """End the faults of the drill, except the victim's, which died with it, and any that another fault replaced."""
        while self._slowed:
            worker = self._slowed.pop()
            with suppress(ApiError):  # it may be gone
                if self._workers().get(worker, {}).get("chaos") in {*NO_FAULT, "slow"}:
                    self._inject(worker, "off")

    def _crash(self) -> None:
        self._inject(self._worker, "crash")
        self._log(f"{self._worker} ordered to crash")
        self._slowed.remove(self._worker)
        self._end_slowdowns()
        self._wait_until(lambda: self._worker not in self._workers(), "the worker did not die")
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
                self._log("Every request has ended")
                return result
            if time.monotonic() > deadline:
                return result
            time.sleep(POLL)

    def _log(self, text: str) -> None:
        self._events.append({"after": round(time.time() - self._began, 2), "text": text})

    def _workers(self) -> dict[str, Mapping[str, Any]]:
        return {worker["id"]: worker for worker in self._api.get("/workers/status")["workers"]}

    def _inject(self, worker: str, mode: str, **options: float) -> None:
        perform(self._api, {"verb": "chaos", "worker": worker, "mode": mode, **options})

    def _send(self, content: bytes, media_type: str, options: Mapping[str, str]) -> str:
        headers = {"Content-Type": media_type, "Prefer": "respond-async"}
        answer = self._api.call("POST", "/inference", params=options, content=content, headers=headers)
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


class PhotoDrill(Drill):
    """A drill with one photo, which kills the worker that has it.

    Args:
        api: called with an admin's key.
        content: the image.
        media_type: its type.
        options: parameters of the request, such as ``model_type``.
    """

    slowdown = PHOTO_SLOWDOWN

    def __init__(self, api: ApiClient, content: bytes, media_type: str, options: Mapping[str, str]) -> None:
        self._content, self._media_type, self._options = content, media_type, options
        self._id: str | None = None
        super().__init__(api, "", 1)

    def document(self) -> dict[str, Any]:
        """The same, with the id of the photo's request."""
        return {**super().document(), "id": self._id}

    def _candidates(self) -> list[str]:
        """Every worker that may take the photo."""
        model = self._options.get("model_type", "any")
        return [name for name, worker in self._workers().items() if model in {"any", worker["model"]}]

    def _prepare(self) -> list[str]:
        """Send the photo and see which worker takes it."""
        if not self._slowed:
            raise DrillFailed("no worker serves this model")
        self._await_slowdown()
        self._id = self._send(self._content, self._media_type, self._options)
        self._log("Photo accepted")
        self._wait_until(self._found_holder, "no worker took the photo")
        self._log(f"{self._worker} has the photo")
        time.sleep(WATCHED)
        return [self._id]

    def _found_holder(self) -> bool:
        request = self._request(str(self._id))
        if request["state"] in FINAL_STATES:
            raise DrillFailed(f"the photo was {request['state']} before a worker could be killed")
        self._worker = request["worker_id"] or ""
        return bool(request["state"] == "running" and self._worker in self._slowed)
