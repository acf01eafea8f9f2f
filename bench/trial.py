"""A plan carried out: a real Redis, real workers, and a model that sleeps as long as a forward pass would take.

What is measured is what :mod:`bench.queueing` simulates; ``python -m bench.capacity --real`` prints both.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from bench.queueing import QueuedRequest, QueuePlan, QueueRun
from tasks.lanes import PRIORITIES
from tasks.producer.gateway import Gateway, Submission
from tests.support.oracle import all_ended
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack


def run(plan: QueuePlan, folder: Path) -> QueueRun:
    """Send the plan's requests at random times to as many real workers; what came of it, by Redis's clock."""
    server = RedisServer(folder / "redis")
    try:
        with Stack(
            server.url, folder / "run", MODELS="photo", MAX_BATCH=plan.max_batch, LANE_ORDER=plan.order
        ) as stack:
            for number in range(plan.workers):
                stack.start_worker(
                    "tests.toy:photo", name=f"photo-{number}", arguments=["-c", str(plan.concurrency)],
                    TOY_SECONDS=plan.service, TOY_BASE=plan.base,
                )  # fmt: skip
            with closing(Gateway(stack.settings())) as gateway:
                return _read(plan, gateway, _send(plan, gateway))
    finally:
        server.stop()


def _send(plan: QueuePlan, gateway: Gateway) -> list[str]:
    """The ids of the requests, each sent at its time whatever became of those before."""
    chance = random.Random(plan.seed)  # noqa: S311 - the same numbers every time
    sent, due = [], time.monotonic()
    for _ in range(plan.requests):
        due += chance.expovariate(plan.rate)
        (priority,) = chance.choices(PRIORITIES, plan.mix)
        time.sleep(max(0.0, due - time.monotonic()))
        sent.append(gateway.submit(Submission(image=b"x" * 1000, model_type="photo", priority=priority)).id)
    return sent


def _read(plan: QueuePlan, gateway: Gateway, sent: list[str]) -> QueueRun:
    done = QueueRun(plan)
    requests = all_ended(gateway, sent, timeout=120)
    first = requests[0].created_at
    told = Counter(request.timeline[-1]["batch"] for request in requests)
    done.passes = [
        size for size, number in told.items() for _ in range(round(number / size))
    ]  # a pass of 3 is counted by 3
    for request in requests:
        assert request.completed_at is not None
        took = request.timings["infer"]
        arrived, ended = request.created_at - first, request.completed_at - first
        done.calls.append(QueuedRequest(request.priority, arrived, ended - took, ended))
    return done
