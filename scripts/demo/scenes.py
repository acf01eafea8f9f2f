"""The scenes: each uses the system, shows what came back, and raises when that is not right."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice, repeat
from statistics import median
from typing import TYPE_CHECKING

from inferlane import AsyncClient, ClientError, traffic
from inferlane.commands.system import worker_table
from inferlane.console import seconds, table
from inferlane.images import read
from inferlane.traffic import Shot
from scripts.demo.crash import crash
from scripts.demo.photos import CAT, COFFEE, PHOTOS, problem, show
from scripts.demo.poison import poison
from scripts.demo.stage import expect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from inferlane import Job
    from inferlane.traffic import Account
    from scripts.demo.stage import DemoStage

MANY = 40
QUEUED = 160  # more than two workers take at once, or there would be no line to overtake
LINE = 0.1  # seconds of waiting that show a line; without one the workers are faster than this submits


def health(stage: DemoStage) -> None:
    """Health: the system in one word, and its workers."""
    found = stage.client.health()
    stage.console.print(f"{found['status']}; broker {found['broker']}, {found['queue_size']} waiting")
    stage.console.print(worker_table(stage.client.workers()))
    expect(found["status"] != "unhealthy", "the system is unhealthy")


def single(stage: DemoStage) -> None:
    """Single photos: the five best classes of each."""
    for photo in PHOTOS:
        result = stage.client.predict(photo, stage.model, top_k=5)
        stage.console.print()
        show(stage.console, photo, result)
        expect(not problem(photo, result), problem(photo, result))


def batch(stage: DemoStage) -> None:
    """Batch: many photos in one call, a bad one among them."""
    good = list(islice(cycle(PHOTOS), 11))
    began = time.monotonic()
    outcomes = list(stage.client.submit_batch([*good, read(CAT).data[:5000]], stage.model).results())
    stage.console.print(f"{len(outcomes)} items in {seconds(time.monotonic() - began)}:")
    failed = [outcome for outcome in outcomes if outcome.error]
    answers = Counter(outcome.result.best.label for outcome in outcomes if outcome.result)
    rows = [*answers.items(), *((outcome.error.code, 1) for outcome in failed if outcome.error)]
    stage.console.print(table("", "best class or error", "#items", rows=rows))
    expect([outcome.index for outcome in failed] == [len(good)], "not only the bad item failed")


def balance(stage: DemoStage) -> None:
    """Load balancing: idle workers take, so the work spreads by itself."""
    outcomes = stage.client.as_completed(repeat(CAT, MANY), model=stage.model, concurrency=8)
    workers = Counter(outcome.unwrap().worker_id for outcome in outcomes)
    stage.console.print(table("", "worker", "#answers", rows=workers.items()))
    live = sum(worker["model"] == stage.model for worker in stage.client.workers())
    expect(live < 2 or len(workers) > 1, f"{live} workers, and one did everything")


def priorities(stage: DemoStage) -> None:
    """Priorities: high overtakes the backlog, low still moves."""
    with ThreadPoolExecutor(8) as pool:
        low = list(pool.map(lambda _: _submit(stage, "low"), range(QUEUED)))
    waits = {"low": low, "high": [_submit(stage, "high") for _ in range(5)]}
    waited = {name: [float(job.result(120).timings["queue"]) for job in jobs] for name, jobs in waits.items()}
    rows = ((name, len(found), seconds(median(found)), seconds(max(found))) for name, found in waited.items())
    stage.console.print(table("waited in line", "priority", "#requests", "#half of them up to", "#longest", rows=rows))
    stage.console.print("The low ones were submitted first.")
    line = median(waited["low"]) > LINE
    expect(not line or median(waited["high"]) < median(waited["low"]), "high did not overtake low")


def _submit(stage: DemoStage, priority: str) -> Job:
    return stage.client.submit(COFFEE, stage.model, priority=priority)


def invalid(stage: DemoStage) -> None:
    """Bad input: refused with a reason, and good requests are answered."""
    cat = read(CAT).data
    cases: Mapping[str, tuple[bytes, str]] = {
        "a photo cut off in the middle": (cat[:5000], stage.model),
        "text without a media type": (b"Meow.", stage.model),
        "nothing at all": (b"", stage.model),
        "an unknown model": (cat, "clairvoyant"),
    }
    codes = {what: _code(stage, image, model) for what, (image, model) in cases.items()}
    stage.console.print(table("", "sent", "answered", rows=codes.items()))
    expect(all(codes.values()), "something bad was accepted")
    expect(not problem(CAT, stage.client.predict(CAT, stage.model)), "the next good photo got a wrong answer")


def _code(stage: DemoStage, image: bytes, model: str) -> str:
    try:
        stage.client.predict(image, model)
    except ClientError as error:
        return error.code
    return ""


def benchmark(stage: DemoStage) -> None:
    """A small benchmark: eight users at once on this machine, now."""
    account = asyncio.run(_users(stage, number=8, requests=120))
    rate = len(account.latencies) / account.elapsed
    stage.console.print(f"{rate:.0f} right answers per second; latency:")
    ordered = sorted(account.latencies)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    rows = [[seconds(traffic.percentile(ordered, share)) for share in shares.values()]]
    stage.console.print(table("", *(f"#{name}" for name in shares), rows=rows))
    stage.console.print("tests/load_test.py measures more, also at a fixed rate.")
    expect(not account.errors, f"errors: {dict(account.errors)}")


async def _users(stage: DemoStage, number: int, requests: int) -> Account:
    shot = Shot(read(CAT), {"model": stage.model}, lambda result: "wrong_answer" if problem(CAT, result) else "")
    async with AsyncClient(stage.url, os.environ.get("INFERLANE_API_KEY")) as client:
        return await traffic.drive(client, repeat(shot), traffic.users(requests), in_flight=number)


SCENES: dict[str, Callable[[DemoStage], None]] = {
    scene.__name__: scene for scene in (health, single, batch, balance, priorities, crash, poison, invalid, benchmark)
}
