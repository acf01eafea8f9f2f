"""The scenes: each uses the system, shows what came back, and raises when that is not right."""

import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice, repeat
from pathlib import Path
from statistics import median
from typing import Any

from inferlane import Client, ClientError, Job
from inferlane.commands.system import worker_table
from inferlane.console import seconds, table
from inferlane.errors import RequestEnded
from inferlane.images import read
from scripts.demo.stage import CAT, COFFEE, PHOTOS, ROCKET, DemoStage, expect, problem, temporary_system
from scripts.supervision import wait_for

MANY = 40
QUEUED = 160  # more than two workers take at once, or there would be no backlog to overtake
BACKLOG = 0.1  # median seconds of waiting that show a backlog; else the workers are faster than this submits
HELD = 96  # requests in the batch whose worker is killed
TRIES = 3
FRAGILE = "fragile"  # the model of the scene poison
#: One death beside other requests, which proves nothing, then MAX_DELIVERIES alone; a worker for each saves restarts.
DEATHS = WORKERS = 4
#: One batch, so that the innocent pictures share a pass with the one that kills.
BATCH = [CAT, COFFEE] * 3 + [ROCKET] + [CAT, COFFEE] * 3
RETURN = 60.0  # seconds for the supervisor to restart a worker, and for the worker to load its model


def health(stage: DemoStage) -> None:
    """Health: the system in one word, and its workers."""
    found = stage.client.health()
    stage.console.print(f"{found['status']}; broker {found['broker']}, {found['queue_size']} waiting")
    stage.console.print(worker_table(stage.client.workers()))
    expect(found["status"] != "unhealthy", "the system is unhealthy")


def single(stage: DemoStage) -> None:
    """Single photos: the five best classes of each."""
    for photo in PHOTOS:
        stage.classify(photo)


def batch(stage: DemoStage) -> None:
    """Batch: many photos in one call, a bad one among them."""
    good = list(islice(cycle(PHOTOS), 11))
    began = time.monotonic()
    outcomes = list(stage.client.submit_batch([*good, read(CAT).data[:5000]], stage.model).results())
    stage.console.print(f"{len(outcomes)} items in {seconds(time.monotonic() - began)}:")
    answers = Counter(
        item.result.best.label if item.result else str(item.error and item.error.code) for item in outcomes
    )
    stage.console.print(table("", "best class or error", "#items", rows=answers.items()))
    expect([item.index for item in outcomes if item.error] == [len(good)], "not only the bad item failed")


def balance(stage: DemoStage) -> None:
    """Load balancing: idle workers take, so the work spreads by itself."""
    outcomes = stage.client.as_completed(repeat(CAT, MANY), model=stage.model, concurrency=8)
    workers = Counter(outcome.unwrap().worker_id for outcome in outcomes)
    stage.console.print(table("", "worker", "#answers", rows=workers.items()))
    live = sum(worker["model"] == stage.model for worker in stage.client.workers())
    expect(live < 2 or len(workers) > 1, f"{live} workers, and one did everything")


def priorities(stage: DemoStage) -> None:
    """Priorities: high overtakes the backlog, low still moves."""

    def submit(priority: str) -> Job:
        return stage.client.submit(COFFEE, stage.model, priority=priority)

    with ThreadPoolExecutor(8) as pool:
        low = list(pool.map(submit, repeat("low", QUEUED)))
    waits = {"low": low, "high": [submit("high") for _ in range(5)]}
    waited = {name: [float(job.result(120).timings["queue"]) for job in jobs] for name, jobs in waits.items()}
    rows = ((name, len(found), seconds(median(found)), seconds(max(found))) for name, found in waited.items())
    stage.console.print(table("waited in line", "priority", "#requests", "#half of them up to", "#longest", rows=rows))
    stage.console.print("The low ones were submitted first.")
    backlog = median(waited["low"]) > BACKLOG
    expect(not backlog or median(waited["high"]) < median(waited["low"]), "high did not overtake low")


def invalid(stage: DemoStage) -> None:
    """Bad input: refused with a reason, and good requests are answered."""
    cat = read(CAT).data
    cases = {
        "a photo cut off in the middle": (cat[:5000], stage.model),
        "text without a media type": (b"Meow.", stage.model),
        "nothing at all": (b"", stage.model),
        "an unknown model": (cat, "clairvoyant"),
    }
    codes = dict.fromkeys(cases, "")
    for what, (image, model) in cases.items():
        try:
            stage.client.predict(image, model)
        except ClientError as error:
            codes[what] = error.code
    stage.console.print(table("", "sent", "answered", rows=codes.items()))
    expect(all(codes.values()), "something bad was accepted")
    expect(not problem(CAT, stage.client.predict(CAT, stage.model)), "the next good photo got a wrong answer")


def crash(stage: DemoStage) -> None:
    """A worker dies: SIGKILL while it works, and its requests end elsewhere."""
    for _ in range(TRIES):
        killed, answers = _kill_under_load(stage)
        expect(all(answer["state"] == "succeeded" for answer in answers), "a request was lost with its worker")
        _wait_for_return(stage, killed)
        if rescued := [answer for answer in answers if deaths(answer, killed["id"])]:
            break
    expect(rescued, f"{TRIES} workers were killed, and none held a request")
    stage.console.print(
        f"All {len(answers)} requests were answered. The killed worker held {len(rescued)} of them, such as:"
    )
    show_timeline(stage, rescued[0])


def _kill_under_load(stage: DemoStage) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Submit requests, kill a worker that runs some; that worker, and all requests once they have ended."""
    batch = stage.client.submit_batch([COFFEE] * HELD, stage.model)
    jobs = [stage.client.job(f"{batch.id}.{index}") for index in range(HELD)]
    stage.console.print(f"Sent a batch of {HELD} photos.")
    name = _holder(jobs)
    victim = next((worker for worker in stage.client.workers() if worker["id"] == name), {"host": ""})
    expect(victim["host"] == socket.gethostname(), f"{name} does not run on this host, so it cannot be killed")
    os.kill(int(victim["pid"]), signal.SIGKILL)
    stage.console.print(f"Killed {victim['id']} (pid {victim['pid']}) with SIGKILL while it held requests.")
    return victim, [ended(job) for job in jobs]


def _holder(jobs: Sequence[Job]) -> str:
    """The worker that runs one of the last of ``jobs``: a worker that has just begun holds the most requests."""
    found: list[str] = []

    def running() -> bool:
        states = [job.status() for job in jobs[:: HELD // 8]]
        found.extend(str(one.worker_id) for one in reversed(states) if one.state == "running")
        return bool(found) or all(one.ended for one in states)

    wait_for(running, timeout=20, interval=0.001)
    expect(found, "the requests ended before any was seen running")
    return found[0]


def _wait_for_return(stage: DemoStage, killed: Mapping[str, Any]) -> None:
    began = time.monotonic()

    def back() -> bool:
        return any(w["id"] == killed["id"] and w["pid"] != killed["pid"] for w in stage.client.workers())

    if wait_for(back, RETURN):
        stage.console.print(f"{killed['id']} is back, {seconds(time.monotonic() - began)} after the last answer.")
    else:
        stage.console.print(f"{killed['id']} has not come back: is it supervised?")


def ended(job: Job) -> Mapping[str, Any]:
    """The request resource once the request has ended, with or without an answer."""
    with contextlib.suppress(RequestEnded):  # its state says so
        job.result(timeout=60)
    return job.status().raw


def deaths(answer: Mapping[str, Any], worker: str = "") -> int:
    """How many workers, or how often the one named, died while they held the request."""
    return sum(e["event"] == "worker_died" and worker in {"", e.get("worker")} for e in answer["timeline"])


def show_timeline(stage: DemoStage, answer: Mapping[str, Any]) -> None:
    """Print the history of one request."""
    events: Sequence[Mapping[str, Any]] = answer["timeline"]
    rows = ((event["at"], event["event"], event.get("worker"), event.get("attempt")) for event in events)
    stage.console.print(table(f"request {answer['request_id']}", "at", "event", "worker", "#attempt", rows=rows))


def poison(stage: DemoStage) -> None:
    """Poison: a picture that kills its workers is dead-lettered, its companions are answered."""
    # A temporary system: the user's has no such model, and its workers should not die for it.
    stage.console.print(f"{WORKERS} workers of a model that dies of {ROCKET.name}, on a temporary system.")
    with temporary_system(f"{FRAGILE}=scripts.demo.fragile:{FRAGILE}", WORKERS) as url, Client(url) as client:
        batch = client.submit_batch(BATCH, FRAGILE)
        found = [ended(client.job(f"{batch.id}.{index}")) for index in range(len(BATCH))]
        letters = client.document("/dead_letters")["dead_letters"]
    guilty = found.pop(BATCH.index(ROCKET))
    rows = [
        (ROCKET.name, 1, guilty["state"], (guilty["error"] or {}).get("code", "")),
        ("its companions", len(found), ", ".join(sorted({answer["state"] for answer in found})), ""),
    ]
    stage.console.print(table("", "what", "#requests", "state", "error", rows=rows))
    dragged = sum(deaths(answer) > 0 for answer in found)
    stage.console.print(f"{dragged} of the companions were running beside it when a worker died.")
    show_timeline(stage, guilty)
    companions = [photo for photo in BATCH if photo != ROCKET]
    judge(guilty, list(zip(companions, found, strict=True)), [letter["request_id"] for letter in letters])


def judge(
    guilty: Mapping[str, Any], innocent: Sequence[tuple[Path, Mapping[str, Any]]], letters: Sequence[str]
) -> None:
    """Raise :class:`~scripts.demo.stage.DemoError` unless only the guilty request was given up, after its deaths."""
    code = (guilty["error"] or {}).get("code")
    expect(guilty["state"] == "failed" and code == "poison", f"the picture that kills is {guilty['state']} ({code})")
    expect(deaths(guilty) == DEATHS, f"{deaths(guilty)} workers died of it, not {DEATHS}")
    expect(letters == [guilty["request_id"]], f"the dead letters are {letters}")
    wrong = [
        answer["request_id"]
        for photo, answer in innocent
        if answer["state"] != "succeeded" or answer["predictions"][0]["index"] not in PHOTOS[photo]
    ]
    expect(not wrong, f"no right answer for {', '.join(wrong)}, which did nothing wrong")
    expect(any(deaths(answer) for _, answer in innocent), "no companion was beside it, so nothing was shown")


SCENES: dict[str, Callable[[DemoStage], None]] = {
    scene.__name__: scene for scene in (health, single, batch, balance, priorities, crash, poison, invalid)
}
