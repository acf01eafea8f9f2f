"""The scene in which a worker dies with requests in its hands, and the others answer them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from inferlane.console import seconds, table
from inferlane.errors import RequestEnded
from scripts.supervision import wait_for
from scripts.tour.pictures import FOLDER
from scripts.tour.problem import expect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferlane import Job
    from scripts.tour.stage import Stage

PHOTO = FOLDER / "coffee.jpg"
QUEUED = 96
TRIES = 3
RETURN = 60.0  # seconds for the supervisor to start it again, and for it to load its model


def crash(stage: Stage) -> None:
    """A worker dies: SIGKILL while it works, and its requests end elsewhere."""
    for _ in range(TRIES):
        killed, answers = _kill_under_load(stage)
        rescued = [answer for answer in answers if _was_rescued(answer, killed)]
        expect(all(answer["state"] == "succeeded" for answer in answers), "a request was lost with its worker")
        _wait_for_return(stage, killed)
        if rescued:
            break
    expect(rescued, f"{TRIES} workers killed, and none had a request in its hands")
    stage.console.print(
        f"All {len(answers)} requests were answered; {len(rescued)} of them were in its hands, as this:"
    )
    show_timeline(stage, rescued[0])


def _kill_under_load(stage: Stage) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Hand in requests, kill a worker that runs some; that worker, and all requests once they have ended."""
    batch = stage.client.submit_batch([PHOTO] * QUEUED, stage.model)
    jobs = [stage.client.job(f"{batch.id}.{index}") for index in range(QUEUED)]
    stage.console.print(f"Sent a batch of {QUEUED} photos.")
    victim = _worker(stage, _who_runs_one(jobs))
    os.kill(int(victim["pid"]), signal.SIGKILL)
    stage.console.print(f"Killed {victim['id']} (pid {victim['pid']}) while it worked.")
    return victim, [ended(job) for job in jobs]


def _who_runs_one(jobs: Sequence[Job]) -> str:
    """The worker that runs one of the last of ``jobs``: whoever has just begun has most in its hands."""
    found: list[str | None] = [None]

    def running() -> bool:
        states = [job.status() for job in jobs[:: QUEUED // 8]]
        found[0] = next((one.worker_id for one in reversed(states) if one.state == "running"), None)
        return found[0] is not None or all(one.ended for one in states)

    wait_for(running, timeout=20, interval=0.001)
    expect(found[0], "the requests ended before anybody was seen to run one")
    return str(found[0])


def _worker(stage: Stage, name: str) -> Mapping[str, Any]:
    found = next((worker for worker in stage.client.workers() if worker["id"] == name), None)
    expect(found and found["host"] == socket.gethostname(), f"{name} does not run on this host, so it cannot be killed")
    return found or {}


def ended(job: Job) -> Mapping[str, Any]:
    """The request resource, once the request has ended, whichever way."""
    with contextlib.suppress(RequestEnded):  # its state says so, and the caller looks at that
        job.result(timeout=60)
    return job.status().raw


def _was_rescued(answer: Mapping[str, Any], killed: Mapping[str, Any]) -> bool:
    return any(e["event"] == "worker_died" and e["worker"] == killed["id"] for e in answer["timeline"])


def show_timeline(stage: Stage, answer: Mapping[str, Any]) -> None:
    """What happened to one request, line by line."""
    events: Sequence[Mapping[str, Any]] = answer["timeline"]
    rows = ((event["at"], event["event"], event.get("worker"), event.get("attempt")) for event in events)
    stage.console.print(table(f"request {answer['request_id']}", "at", "event", "worker", "#attempt", rows=rows))


def _wait_for_return(stage: Stage, killed: Mapping[str, Any]) -> None:
    began = time.monotonic()

    def back() -> bool:
        return any(w["id"] == killed["id"] and w["pid"] != killed["pid"] for w in stage.client.workers())

    if wait_for(back, RETURN):
        stage.console.print(f"{killed['id']} is back, {seconds(time.monotonic() - began)} after the last answer.")
    else:
        stage.console.print(f"{killed['id']} has not come back: does nobody restart it?")
