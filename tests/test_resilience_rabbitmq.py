"""The promises about failure with RabbitMQ between the API and the workers: the same scenarios, and RabbitMQ's own.

Skipped, and said so, where rabbitmq-server is not installed. The long form, ``RABBITMQ_TESTS=full``, is what
``make resilience`` runs: more scenarios, and fifty freezes and kills instead of six.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from tasks.controls import Controls
from tests import test_resilience as scenarios
from tests.support.caller import Caller
from tests.support.mutants import Mutation, mutant
from tests.support.processes import ROOT
from tests.support.rabbitmq_server import RabbitmqServer, needs_rabbitmq
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.chaos, needs_rabbitmq]

FULL = os.environ.get("RABBITMQ_TESTS") == "full"
ROUNDS = 50 if FULL else 6
in_full = pytest.mark.skipif(not FULL, reason="part of the long form, which make resilience runs")
MODELS = ("photo", "toy")


@pytest.fixture(scope="module")
def brokers(rabbitmq: RabbitmqServer, module_redis: RedisServer) -> tuple[RedisServer, RabbitmqServer]:
    """Both, and Redis up for longer than the two lease TTLs in which nobody is declared dead."""
    with redis.Redis.from_url(module_redis.url) as client:
        wait_until(lambda: client.info("server")["uptime_in_seconds"] > 4)
    return module_redis, rabbitmq


@pytest.fixture
def build(brokers: tuple[RedisServer, RabbitmqServer], tmp_path: Path) -> Iterator[scenarios.Build]:
    """A stack with keys and queues of its own, of this source tree or of a mutant."""
    records, rabbitmq = brokers
    stacks: list[Stack] = []

    def start(mutation: Mutation | None = None, **environ: object) -> Stack:
        root = mutant(tmp_path, mutation) if mutation else ROOT
        settings: dict[str, Any] = {
            "KEY_PREFIX": f"{uuid4().hex}:", "MODELS": ",".join(MODELS), "AMQP_URL": rabbitmq.url, **environ,
        }  # fmt: skip
        stacks.append(Stack(records.url, tmp_path / "run", root=root, **settings))
        return stacks[-1]

    yield start
    for stack in stacks:
        stack.kill()
        stack.close()
    rabbitmq.forget(MODELS)


# -- the five promises, as with Redis


def test_worker_failure(build: scenarios.Build) -> None:
    scenarios.worker_failure(build())


def test_network_partition(build: scenarios.Build) -> None:
    scenarios.network_partition(build(), stall=True)


@in_full
def test_overload(build: scenarios.Build) -> None:
    scenarios.overload(build())


def test_recovery_time(build: scenarios.Build) -> None:
    scenarios.recovery_time(build())


@in_full
def test_graceful_degradation(build: scenarios.Build) -> None:
    scenarios.graceful_degradation(build())


SWEEP_OFF = Mutation(
    "tasks/brokers/sweep.py", 'while letters := self._letters("claim", CLAIM):', "while letters := []:"
)


def test_worker_failure_notices_that_nobody_publishes_what_was_rescued(build: scenarios.Build) -> None:
    with pytest.raises(AssertionError, match="callers are answered"):
        scenarios.worker_failure(build(SWEEP_OFF))


@in_full
def test_network_partition_notices_that_a_late_answer_counts(build: scenarios.Build) -> None:
    with pytest.raises(AssertionError, match="the late answer changed the record"):
        scenarios.network_partition(build(scenarios.FENCE_OFF), stall=False)


# -- a message on its way to a worker that is frozen and then killed


def frozen_and_killed(stack: Stack, rounds: int) -> None:
    """Each round a worker stops at another moment around a publication, and dies. Nothing is lost with any of them."""
    caller = Caller(stack, stack.start_api())
    pauses = itertools.cycle((None, 0.0, 0.005, 0.01, 0.02, 0.04))
    for victim in one_after_the_other(stack, caller, rounds):
        freeze_around(caller, victim, next(pauses))
        victim.kill()
    (survivor,) = scenarios.photo_workers(stack, "survivor", threads=8, TOY_SECONDS=0.01)
    scenarios.ready(stack, [survivor])
    caller.wait_for(caller.accepted, 30)
    caller.judge()


def one_after_the_other(stack: Stack, caller: Caller, rounds: int) -> Iterator[WorkerProcess]:
    """As many workers, of which only one takes work at a time: it has just answered a request and waits for the next.

    They start side by side, six at a time, told to take nothing until it is their turn.
    """
    controls = Controls(stack.settings())
    for first in range(0, rounds, 6):
        names = [f"victim-{number}" for number in range(first, min(first + 6, rounds))]
        for name in names:
            controls.drain(f"{name}@{socket.gethostname()}")
        spare = scenarios.photo_workers(stack, *names, threads=2, TOY_SECONDS=0.2)
        scenarios.ready(stack, spare)
        for worker in spare:
            controls.undrain(worker.node)
            caller.wait_for([caller.send()], 15)
            yield worker


def freeze_around(caller: Caller, victim: WorkerProcess, pause: float | None) -> None:
    """SIGSTOP before the publication (None), or so many seconds after it."""
    if pause is None:
        victim.send(signal.SIGSTOP)
    caller.send()
    if pause is not None:
        time.sleep(pause)
        victim.send(signal.SIGSTOP)


def test_a_message_to_a_frozen_worker_survives_its_death(build: scenarios.Build) -> None:
    frozen_and_killed(build(), ROUNDS)


def frozen_for_good(stack: Stack) -> float:
    """A worker freezes with work in its hands and stays so; the seconds until another has started it."""
    (victim,) = scenarios.photo_workers(stack, "victim", threads=4, TOY_SECONDS=60)
    caller = Caller(stack, stack.start_api())
    scenarios.ready(stack, [victim])
    requests = [caller.send() for _ in range(4)]
    for request in requests:
        caller.wait_for_start(request, victim.node)
    (free,) = scenarios.photo_workers(stack, "free", threads=4, TOY_SECONDS=0.01)
    scenarios.ready(stack, [free])
    victim.send(signal.SIGSTOP)
    frozen_at = time.time()
    took = max(caller.wait_for_start(request, free.node, timeout=6) for request in requests) - frozen_at
    caller.judge()
    return took


@in_full
def test_what_a_frozen_worker_held_runs_elsewhere_within_four_seconds(build: scenarios.Build) -> None:
    assert frozen_for_good(build()) <= 4.0


# -- RabbitMQ itself


#: Seconds in which RabbitMQ has written down the queues it has just made. Killed before that, it may come back with a
#: queue that has no leader and answers nobody (docs/reliability.md, where promises end); nothing tells that it is done.
QUEUES_WRITTEN = 6.0


def rabbitmq_restarts(stack: Stack, rabbitmq: RabbitmqServer) -> float:
    """Killed under load and started again: everything accepted meanwhile is answered; seconds from back to working."""
    caller = Caller(stack, stack.start_api(MAX_WAIT=60))
    scenarios.ready(stack, scenarios.photo_workers(stack, "first", "second", threads=4, TOY_SECONDS=0.02))
    caller.wait_for([caller.send(priority=priority) for priority in scenarios.PRIORITIES], 15)
    time.sleep(QUEUES_WRITTEN)
    for _ in range(30):
        caller.send()
    rabbitmq.kill()
    for priority in scenarios.PRIORITIES * 10:
        caller.send(priority=priority)
    wait_until(lambda: "RabbitMQ" in str(caller.look("/health")[1]["reasons"]), 10, what="/health says why")
    assert caller.look("/health")[1]["status"] == "degraded"
    assert caller.look("/readyz")[0] == 200
    rows = {row["lane"]: row for row in caller.monitor.lanes()}
    assert rows["high.photo"]["depth"] > 0
    assert rows["high.photo"]["oldest_age"] > 0
    rabbitmq.start()
    back = time.monotonic()
    wait_until(partial(answers, caller), 20, what="a new request is answered")
    took = time.monotonic() - back
    caller.wait_for(caller.accepted, 20)
    caller.judge()
    wait_until(lambda: caller.look("/health")[1]["reasons"] == ["no worker serves toy"], 10, what="trouble is over")
    return took


def answers(caller: Caller) -> bool:
    """Whether a new request is answered within two seconds."""
    try:
        return bool(caller.wait_for([caller.send()], 2))
    except TimeoutError:
        return False


def test_rabbitmq_killed_under_load_loses_nothing(
    build: scenarios.Build, brokers: tuple[RedisServer, RabbitmqServer]
) -> None:
    assert rabbitmq_restarts(build(), brokers[1]) <= 10.0


def rabbitmq_loses_its_queues(stack: Stack, rabbitmq: RabbitmqServer) -> None:
    """A queue is deleted with what RabbitMQ had confirmed into it: its letters are missed and published again."""
    caller = Caller(stack, stack.start_api())
    (first,) = scenarios.photo_workers(stack, "first", TOY_SECONDS=60)
    scenarios.ready(stack, [first])
    caller.wait_for_start(caller.send(), first.node)
    for _ in range(5):
        caller.send()
    wait_until(lambda: rabbitmq.depth("normal.photo") == 5, what="RabbitMQ has them")
    with rabbitmq.connect() as connection:
        connection.channel().queue_delete("normal.photo")
    (second,) = scenarios.photo_workers(stack, "second", TOY_SECONDS=0.01)
    first.kill()
    scenarios.ready(stack, [second])
    caller.wait_for(caller.accepted, 30)
    caller.judge()
    assert caller.monitor.counters()["republished"] == 5


@in_full
def test_what_rabbitmq_lost_is_published_again(
    build: scenarios.Build, brokers: tuple[RedisServer, RabbitmqServer]
) -> None:
    rabbitmq_loses_its_queues(build(), brokers[1])
