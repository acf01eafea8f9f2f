"""The fault drill: kill a worker that has work in hand and watch what becomes of that work.

It slows the worker down so that it certainly holds something, gives it requests, kills it, and follows every request
to its end through the API. The verdict counts what the requests' own timelines say; nothing is assumed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dashboard import actions, photo
from dashboard.upstream import Upstream, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_REQUESTS = 64
#: Seconds: between looks, for the worker to have work in hand, and for everything to end.
LOOK = 0.2
READY = 15.0
PATIENCE = 90.0
#: How much longer each forward pass of the victim takes, in seconds.
SLOW = 1.5
ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})


class DrillError(RuntimeError):
    """The drill could not be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the timelines of the drill's requests say."""

    sent: int
    succeeded: int
    redelivered: int
    open: int

    @property
    def lost(self) -> int:
        """Requests that ended without an answer."""
        return self.sent - self.succeeded - self.open


def tally(requests: Sequence[Mapping[str, Any]]) -> Tally:
    """Count request resources. Redelivered: started more than once, or taken from a worker that died."""
    again = sum(
        1
        for request in requests
        if request["attempts"] > 1 or any(event["event"] == "worker_died" for event in request["timeline"])
    )
    succeeded = sum(request["state"] == "succeeded" for request in requests)
    waiting = sum(request["state"] not in ENDED for request in requests)
    return Tally(len(requests), succeeded, again, waiting)


def sentence(found: Tally) -> str:
    """The verdict: ``5 redelivered, 0 lost``."""
    text = f"{found.redelivered} redelivered, {found.lost} lost"
    return text + (f", {found.open} still waiting" if found.open else "")


class Drill:
    """One drill in its own thread; ends by itself.

    Args:
        upstream: the API.
        worker: the victim's name.
        requests: how many to send.
        key: an admin's API key.
    """

    def __init__(self, upstream: Upstream, worker: str, requests: int, key: str) -> None:
        self._upstream, self._worker, self._requests, self._key = upstream, worker, requests, key
        self._lock = threading.Lock()
        self._began = time.time()
        self._events: list[dict[str, Any]] = []
        self._verdict = ""
        self._level = ""
        self._thread = threading.Thread(target=self._run, name="drill", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it is still going on."""
        return self._thread.is_alive()

    def join(self, timeout: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout)

    def document(self) -> dict[str, Any]:
        """What has happened so far, as JSON."""
        with self._lock:
            return {
                "running": self.running, "worker": self._worker, "began": self._began,
                "events": list(self._events), "verdict": self._verdict, "level": self._level,
            }  # fmt: skip

    # -- the drill itself

    def _run(self) -> None:
        try:
            self._conclude(self._carry_out())
        except (DrillError, UpstreamError) as error:
            self._end("bad", f"The drill could not be finished: {error}")

    def _carry_out(self) -> Tally:
        model = self._victim()["model"]
        self._chaos("slow", seconds=SLOW)
        self._until(lambda: self._victim().get("chaos") == "slow", READY, "the worker was not slowed down")
        self._tell(f"{self._worker} slowed down, so that it is caught with work in hand")
        ids = [self._send(model, number) for number in range(self._requests)]
        self._tell(f"{len(ids)} requests accepted for {model}")
        self._until(lambda: self._holding(ids), READY, "the worker took no request of the drill")
        self._chaos("crash")
        self._tell(f"{self._worker} told to kill itself while it works")
        self._until(lambda: self._found() is None, READY, "the worker did not die")
        self._tell("Death noticed: its lease has run out")
        return self._follow(ids)

    def _follow(self, ids: Sequence[str]) -> Tally:
        """Look until every request has ended; tell of the first redelivery and the first answer after it."""
        told: set[str] = set()
        ends = time.monotonic() + PATIENCE
        while True:
            found = tally([self._get(request_id) for request_id in ids])
            if found.redelivered and "redelivered" not in told:
                told.add("redelivered")
                self._tell("First request given to another worker")
            if not found.open or time.monotonic() > ends:
                return found
            time.sleep(LOOK)

    def _conclude(self, found: Tally) -> None:
        if not found.open:
            self._tell(f"All {found.sent} requests have ended")
        good = found.lost == 0 and not found.open
        self._end("ok" if good else "warn" if not found.lost else "bad", sentence(found))

    # -- small steps

    def _tell(self, text: str) -> None:
        with self._lock:
            self._events.append({"at": time.time(), "after": round(time.time() - self._began, 2), "text": text})

    def _end(self, level: str, verdict: str) -> None:
        with self._lock:
            self._level, self._verdict = level, verdict

    def _victim(self) -> Mapping[str, Any]:
        found = self._found()
        if found is None:
            raise DrillError(f"there is no worker {self._worker}")
        return found

    def _found(self) -> Mapping[str, Any] | None:
        workers = self._upstream.call("GET", "/workers/status", key=self._key).body["workers"]
        return next((worker for worker in workers if worker["id"] == self._worker), None)

    def _chaos(self, mode: str, **more: float) -> None:
        order = {"verb": "chaos", "worker": self._worker, "mode": mode, **more}
        actions.perform(self._upstream, order, self._key)

    def _send(self, model: str, number: int) -> str:
        answer = self._upstream.call(
            "POST", "/inference", key=self._key, params={"model_type": model},
            content=photo.copy(f"drill {self._began}-{number}"),
            headers={"Content-Type": photo.MEDIA_TYPE, "Prefer": "respond-async"},
        )  # fmt: skip
        return str(answer.body["request_id"])

    def _get(self, request_id: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._upstream.call("GET", f"/inference/{request_id}", key=self._key).body
        return found

    def _holding(self, ids: Sequence[str]) -> bool:
        held = [self._get(request_id) for request_id in ids]
        return any(request["state"] == "running" and request["worker_id"] == self._worker for request in held)

    @staticmethod
    def _until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        ends = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > ends:
                raise DrillError(f"{otherwise} within {seconds:g} s")
            time.sleep(LOOK)


class Drills:
    """The drill of the moment, or the last one."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._last: Drill | None = None

    def start(self, worker: str, requests: int, key: str) -> None:
        """Begin.

        Raises:
            ValueError: one is running, or the number is out of bounds.
        """
        if not 1 <= requests <= MOST_REQUESTS:
            raise ValueError(f"requests must be from 1 to {MOST_REQUESTS}")
        with self._lock:
            if self._last is not None and self._last.running:
                raise ValueError("a drill is going on")
            self._last = Drill(self._upstream, worker, requests, key)

    def document(self) -> dict[str, Any] | None:
        """The last drill; None before the first."""
        return self._last.document() if self._last is not None else None
