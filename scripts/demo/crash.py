"""The scene in which a worker is killed while it holds requests, and other workers answer them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from inferlane.console import seconds, table
from inferlane.errors import RequestEnded
from scripts.demo.photos import COFFEE
from scripts.demo.stage import expect
from scripts.supervision import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from inferlane import Job
    from scripts.demo.stage import DemoStage

QUEUED = 96
TRIES = 3
RETURN = 60.0  # seconds for the supervisor to restart a worker, and for the worker to load its model


def crash(stage: DemoStage) -> None:
    """A worker dies: SIGKILL while it works, and its requests end elsewhere."""
    for _ in range(TRIES):
        killed, answers = _kill_under_load(stage)
        rescued = [answer for answer in answers if _was_rescued(answer, killed)]
        expect(all(answer["state"] == "succeeded" for answer in answers), "a request was lost with its worker")
        _wait_for_return(stage, killed)
        if rescued:
            break
    expect(rescued, f"{TRIES} workers were killed, and none held a request")
    stage.console.print(
        f"All {len(answers)} requests were answered. The killed worker held {len(rescued)} of them, such as:"
    )
    show_timeline(stage, rescued[0])


def _kill_under_load(stage: DemoStage) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Submit requests, kill a worker that runs some; that worker, and all requests once they have ended."""
    batch = stage.client.submit_batch([COFFEE] * QUEUED, stage.model)
    jobs = [stage.client.job(f"{batch.id}.{index}") for index in range(QUEUED)]
    stage.console.print(f"Sent a batch of {QUEUED} photos.")
    victim = _local_worker(stage, _holder(jobs))
    os.kill(int(victim["pid"]), signal.SIGKILL)
    stage.console.print(f"Killed {victim['id']} (pid {victim['pid']}) with SIGKILL while it held requests.")
    return victim, [ended(job) for job in jobs]


def _holder(jobs: Sequence[Job]) -> str:
    """The worker that runs one of the last of ``jobs``: a worker that has just begun holds the most requests."""
    found: list[str | None] = [None]

    def running() -> bool:
        states = [job.status() for job in jobs[:: QUEUED // 8]]
        found[0] = next((one.worker_id for one in reversed(states) if one.state == "running"), None)
        return found[0] is not None or all(one.ended for one in states)

    wait_for(running, timeout=20, interval=0.001)
    expect(found[0], "the requests ended before any was seen running")
    return str(found[0])


def _local_worker(stage: DemoStage, name: str) -> Mapping[str, Any]:
    found = next((worker for worker in stage.client.workers() if worker["id"] == name), None)
    expect(found and found["host"] == socket.gethostname(), f"{name} does not run on this host, so it cannot be killed")
    return found or {}


def ended(job: Job) -> Mapping[str, Any]:
    """The request resource once the request has ended, with or without an answer."""
    with contextlib.suppress(RequestEnded):  # its state says so
        job.result(timeout=60)
    return job.status().raw


def _was_rescued(answer: Mapping[str, Any], killed: Mapping[str, Any]) -> bool:
    return any(e["event"] == "worker_died" and e["worker"] == killed["id"] for e in answer["timeline"])


def show_timeline(stage: DemoStage, answer: Mapping[str, Any]) -> None:
    """Print the history of one request."""
    events: Sequence[Mapping[str, Any]] = answer["timeline"]
    rows = ((event["at"], event["event"], event.get("worker"), event.get("attempt")) for event in events)
    stage.console.print(table(f"request {answer['request_id']}", "at", "event", "worker", "#attempt", rows=rows))


def _wait_for_return(stage: DemoStage, killed: Mapping[str, Any]) -> None:
    began = time.monotonic()

    def back() -> bool:
        return any(w["id"] == killed["id"] and w["pid"] != killed["pid"] for w in stage.client.workers())

    if wait_for(back, RETURN):
        stage.console.print(f"{killed['id']} is back, {seconds(time.monotonic() - began)} after the last answer.")
    else:
        stage.console.print(f"{killed['id']} has not come back: is it supervised?")
