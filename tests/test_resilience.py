"""The five promises about failure, on a real API, Redis and workers.

Each promise is one function, its scenario. It must pass on this source tree, and the same function must fail on a
system that misbehaves: a copy of the tree with one line changed, or with a setting that breaks the promise.

``python tests/test_resilience.py`` runs them all, and takes pytest's options.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python finds only the folder tests
    sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402
import redis  # noqa: E402

from tasks.producer.live_workers import FRESH  # noqa: E402
from tests.support.broken_network import BrokenNetwork  # noqa: E402
from tests.support.caller import Caller, Reply  # noqa: E402
from tests.support.mutants import Mutation, mutant  # noqa: E402
from tests.support.redis_server import RedisServer  # noqa: E402
from tests.support.stack import Stack, WorkerProcess  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

PHOTO = "tests.toy:photo"
TOY = "tests.toy:toy"
PRIORITIES = ("high", "normal", "low")
Build = Callable[..., Stack]


@pytest.fixture(scope="module")
def settled_redis(module_redis: RedisServer) -> RedisServer:
    """Up for longer than the two lease TTLs in which nobody is declared dead after a start of Redis."""
    with redis.Redis.from_url(module_redis.url) as client:
        wait_until(lambda: client.info("server")["uptime_in_seconds"] > 4)
    return module_redis


@pytest.fixture
def build(settled_redis: RedisServer, tmp_path: Path) -> Iterator[Build]:
    """A stack with a separate key prefix, of this source tree or of a mutant: ``build(mutation, LEASE_TTL=20)``."""
    stacks: list[Stack] = []

    def start(mutation: Mutation | None = None, **environ: object) -> Stack:
        root = mutant(tmp_path, mutation) if mutation else ROOT
        settings: dict[str, Any] = {"KEY_PREFIX": f"{uuid4().hex}:", "MODELS": "photo,toy", **environ}
        stacks.append(Stack(settled_redis.url, tmp_path / "run", root=root, **settings))
        return stacks[-1]

    yield start
    for stack in stacks:
        stack.kill()
        stack.close()


def photo_workers(stack: Stack, *names: str, threads: int = 1, **environ: Any) -> list[WorkerProcess]:
    """Workers of the model ``photo``, starting side by side; see :func:`ready`."""
    options = ["-c", str(threads)]
    return [stack.start_worker(PHOTO, name=name, arguments=options, ready=False, **environ) for name in names]


def ready(stack: Stack, workers: Sequence[WorkerProcess]) -> None:
    """Wait for their leases; what else a scenario starts may come up meanwhile."""
    for worker in workers:
        stack.wait_for_worker(worker)


# -- worker failure


def worker_failure(stack: Stack) -> None:
    """Two of three workers are killed under load: every caller, also those who wait, gets one answer."""
    workers = photo_workers(stack, "first", "second", "third", threads=4, TOY_SECONDS=0.1, MAX_BATCH=4)
    caller = Caller(stack, stack.start_api(MAX_WAIT=9))
    ready(stack, workers)
    with ThreadPoolExecutor(16) as pool:
        replies = [pool.submit(caller.post, wait=True) for _ in range(48)]
        for victim in workers[:2]:
            wait_until(partial(in_flight, caller, victim), what="a victim has work")
            victim.kill()
    codes = [reply.result().response.status_code for reply in replies]
    assert codes == [200] * 48, f"callers are answered: {codes}"
    requests = caller.judge()
    assert caller.monitor.counters()["rescued"] >= 1, "nothing was running on the killed workers"
    assert max(request.attempts for request in requests) >= 2


def in_flight(caller: Caller, worker: WorkerProcess) -> int:
    """How many requests the worker holds, as it last said itself."""
    return next((row["in_flight"] for row in caller.monitor.workers() if row["pid"] == worker.pid), 0)


RESCUE_OFF = Mutation("tasks/protocol/lua/lapsed.lua", "return lapsed", "return {lapsed[1], lapsed[2], lapsed[3]}")


@pytest.mark.parametrize("store", ["redis", "file://{}/payloads"], ids=["redis", "file"])
def test_worker_failure(build: Build, tmp_path: Path, store: str) -> None:
    worker_failure(build(PAYLOAD_STORE=store.format(tmp_path)))


def test_worker_failure_notices_that_nobody_rescues(build: Build) -> None:
    with pytest.raises(AssertionError, match="callers are answered"):
        worker_failure(build(RESCUE_OFF))


# -- network partition


def network_partition(stack: Stack, *, stall: bool) -> None:
    """A worker loses Redis, others take over; when it is back its late answer changes nothing and it works again."""
    with BrokenNetwork(stack) as network:
        (island,) = photo_workers(stack, "island", TOY_SECONDS=2, **network.environ)
        caller = Caller(stack, stack.start_api())
        ready(stack, [island])
        request = caller.send()
        caller.wait_for_start(request, island.node)
        network.cut(stall=stall)
        (mainland,) = photo_workers(stack, "mainland", TOY_SECONDS=0.05)
        ready(stack, [mainland])
        (answer,) = caller.wait_for([request], 10)
        assert (answer["worker_id"], answer["attempts"]) == (mainland.node, 2)
        network.heal()
        late_answer_is_fenced(caller, request)
        wait_until(lambda: len(caller.monitor.workers()) == 2, 10, what="the island rejoins")
        wait_until(lambda: answers_one_of(caller, island, number=4), 15, what="the island works again")
        caller.judge()
        island.check_alive()


def answers_one_of(caller: Caller, worker: WorkerProcess, number: int) -> bool:
    """Whether the worker answers at least one of a few new requests."""
    answers = caller.wait_for([caller.send() for _ in range(number)], 10)
    return worker.node in {answer["worker_id"] for answer in answers}


def late_answer_is_fenced(caller: Caller, request_id: str) -> None:
    """The worker that was cut off answers as soon as it can; that shows in one counter and nowhere else."""
    before = caller.get(request_id)

    def arrived() -> bool:
        return caller.monitor.counters()["fenced"] > 0 or caller.get(request_id) != before

    wait_until(arrived, 12, what="the late answer")
    assert caller.get(request_id) == before, "the late answer changed the record"
    # More than one when the worker had given a stalled commit up and sent it again: the healed line delivers both.
    assert caller.monitor.counters()["fenced"] >= 1


FENCE_OFF = Mutation(
    "tasks/protocol/lua/commit.lua",
    "if r.state ~= 'running' or r.owner ~= boot or r.attempt ~= attempt then",
    "if false then",
)


@pytest.mark.parametrize("stall", [True, False], ids=["stalled", "broken"])
def test_network_partition(build: Build, stall: bool) -> None:
    network_partition(build(), stall=stall)


def test_network_partition_notices_that_a_late_answer_counts(build: Build) -> None:
    with pytest.raises(AssertionError, match="the late answer changed the record"):
        network_partition(build(FENCE_OFF), stall=False)


# -- overload

SERVICE = 0.1  # seconds an image: one worker answers less than ten a second
ROOM = 40


def overload(stack: Stack) -> None:
    """Twice the capacity for eight seconds: low is refused first, high hardly notices, low still moves."""
    workers = photo_workers(stack, "only", threads=2, TOY_SECONDS=SERVICE, MAX_BATCH=1)
    caller = Caller(stack, stack.start_api(MAX_QUEUE=ROOM))
    ready(stack, workers)
    replies = twice_the_capacity(caller, seconds=8.0)
    ended = time.time()
    assert {reply.response.status_code for reply in replies} == {202, 503}, "nobody was refused"
    check_refusals(replies)
    requests = caller.judge(timeout=20)
    assert {str(request.state) for request in requests} == {"succeeded"}
    waits = {p: [r.timings["total"] for r in requests if r.priority == p] for p in PRIORITIES}
    assert max(waits["high"]) <= 3.0, f"high waits: {waits['high']}"
    assert statistics.median(waits["high"]) < statistics.median(waits["normal"]) / 2, (
        f"high is not served first: {waits}"
    )
    full_at = min(reply.sent_at for reply in replies if reply.refused and reply.priority == "normal")
    low = [r.completed_at or 0.0 for r in requests if r.priority == "low"]
    assert any(full_at < at < ended for at in low), "low does not move while the lanes are full"
    assert caller.post(priority="low").response.status_code == 202


def twice_the_capacity(caller: Caller, seconds: float) -> list[Reply]:
    """Post at a steady rate, whatever the answers; fail as soon as more waits than may wait."""
    rate = 2 / SERVICE
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        sent = []
        for number, priority in zip(range(int(rate * seconds)), cycle(("high", "normal", "low", "normal"))):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            sent.append(pool.submit(caller.post, priority=priority))
            if number % 5 == 0:
                waiting = sum(row["queued"] for row in caller.monitor.ledger().values())
                assert waiting <= ROOM, f"{waiting} requests wait, {ROOM} may"
    return [reply.result() for reply in sent]


def check_refusals(replies: list[Reply]) -> None:
    """A refusal comes at once, says when to come back, and hits low before normal before high."""
    refused = [reply for reply in replies if reply.refused]
    share = {p: sum(r.priority == p for r in refused) / sum(r.priority == p for r in replies) for p in PRIORITIES}
    assert share["low"] > share["normal"] > share["high"] == 0, f"shares refused: {share}"
    assert refused[0].priority == "low", "low is not refused first"
    later = [int(reply.response.headers["Retry-After"]) for reply in refused if reply.priority == "normal"]
    # Half of the backlog ahead takes 1.1 to 1.6 s: more than the least answer, less than the unmeasured guess.
    assert 1 < min(later) <= max(later) <= ROOM * SERVICE, f"Retry-After: {later}"
    assert all(reply.response.json()["retryable"] for reply in refused)
    assert max(reply.took for reply in replies) < 3.0, "the API is slow to answer"


ADMISSION_OFF = Mutation(
    "tasks/protocol/lua/accept.lua",
    "elseif backlog + #fresh >= bound and own + #fresh >= reserved and not spared() then",
    "elseif false then",
)
GUESSED = Mutation(
    "tasks/producer/admission.py",
    "wait = live.expected_wait(entry.model, entry.submission.priority, entry.submission.owner) or UNMEASURED",
    "wait = 2 * UNMEASURED",
)
HIGH_LAST = Mutation(
    "common/settings.py", "_setting((6, 3, 1), parsers.integers)", "_setting((1, 3, 6), parsers.integers)"
)


def test_overload(build: Build) -> None:
    overload(build())


def test_overload_notices_that_high_is_served_last(build: Build) -> None:
    with pytest.raises(AssertionError, match=r"^(high |shares refused: )"):
        overload(build(HIGH_LAST))


def test_overload_notices_that_retry_after_is_guessed(build: Build) -> None:
    with pytest.raises(AssertionError, match=r"^Retry-After: "):
        overload(build(GUESSED))


def test_overload_notices_that_nothing_is_refused(build: Build) -> None:
    with pytest.raises(AssertionError, match="requests wait, 40 may"):
        overload(build(ADMISSION_OFF))


# -- recovery time


def recovery_time(stack: Stack) -> None:
    """With a free worker beside it, what a killed worker was doing starts again within three seconds."""
    victims = photo_workers(stack, "victim-1", "victim-2", "victim-3", TOY_SECONDS=60)
    caller = Caller(stack, stack.start_api())
    ready(stack, victims)
    requests = {worker_of(caller, request): request for request in [caller.send() for _ in victims]}
    (free,) = photo_workers(stack, "free", threads=4, TOY_SECONDS=0.05)
    ready(stack, [free])
    killed_at = {}
    for victim in victims:
        killed_at[victim.node] = time.time()
        victim.kill()
    for node, at in killed_at.items():
        took = caller.wait_for_start(requests[node], free.node, timeout=5) - at
        assert took <= 3.0, f"started {took:.2f} s after the kill"
    caller.wait_for(caller.accepted, 5)
    caller.judge()


def worker_of(caller: Caller, request_id: str) -> str:
    """The node that runs the request, as soon as one does."""
    return str(wait_until(lambda: caller.get(request_id)["worker_id"], what="a request starts"))


def test_recovery_time(build: Build) -> None:
    recovery_time(build())


def test_recovery_time_notices_that_death_is_noticed_late(build: Build) -> None:
    with pytest.raises(TimeoutError, match="a request starts on free"):
        recovery_time(build(LEASE_TTL=20))


# -- graceful degradation


def graceful_degradation(stack: Stack) -> None:
    """Without any worker of one model the other is served as before, and the one's requests wait for a worker."""
    stack.start_worker(TOY, name="toy", ready=False)
    doomed = photo_workers(stack, "photo-1", "photo-2", TOY_SECONDS=0.3)
    caller = Caller(stack, stack.start_api(MAX_WAIT=10))
    ready(stack, doomed)
    wait_until(lambda: caller.look("/health")[1]["status"] == "healthy", 10, what="healthy")
    orphans = [caller.send() for _ in range(4)]
    for worker in doomed:
        worker.kill()
    wait_until(
        lambda: "no worker serves photo" in caller.look("/health")[1]["reasons"], 10, what="/health says degraded"
    )
    assert caller.look("/health")[1]["status"] == "degraded"
    assert caller.look("/health")[0] == caller.look("/readyz")[0] == 200
    replies = [caller.post(model, wait=True) for model in ("toy", "any") * 10]
    assert [reply.response.status_code for reply in replies] == [200] * 20, "the other model is affected"
    time.sleep(FRESH)  # what the API knows of workers may be so old
    orphans += [caller.send(priority=priority) for priority in PRIORITIES]
    assert max(reply.took for reply in replies) < 1.0, "the other model is slower"
    assert {caller.get(orphan)["state"] for orphan in orphans[-3:]} == {"queued"}
    photo_workers(stack, "photo-3", threads=4)
    caller.wait_for(orphans, 40)  # recovery_time measures; here it matters that they wait and are answered at all
    wait_until(lambda: caller.look("/health")[1]["status"] == "healthy", 5, what="healthy again")
    caller.judge()


OUTAGE_IS_AN_ERROR = Mutation(
    "tasks/producer/admission.py",
    "if model_type not in self._settings.models and model_type not in live:",
    "if model_type not in live:",
)
BLIND_HEALTH = Mutation(
    "tasks/inspect/health.py",
    'served = {worker["model"] for worker in seen.workers if worker["state"] != "draining"}',
    "served = set(settings.models)",
)


def test_graceful_degradation(build: Build) -> None:
    graceful_degradation(build())


def test_graceful_degradation_notices_that_an_outage_becomes_an_error(build: Build) -> None:
    with pytest.raises(AssertionError, match="not accepted: 422"):
        graceful_degradation(build(OUTAGE_IS_AN_ERROR))


def test_graceful_degradation_notices_that_health_is_blind(build: Build) -> None:
    with pytest.raises(TimeoutError, match="/health says degraded"):
        graceful_degradation(build(BLIND_HEALTH))


def test_it_runs_as_a_file_from_anywhere(tmp_path: Path) -> None:
    listed = run_as_a_file("--collect-only", "--quiet", cwd=tmp_path)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert "test_worker_failure" in listed.stdout
    assert run_as_a_file("-k", "nothing_like_it", cwd=tmp_path).returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def run_as_a_file(*options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The file as a user runs it."""
    command = [sys.executable, str(Path(__file__).resolve()), *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


if __name__ == "__main__":
    where = [f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", str(Path(__file__).resolve())]
    sys.exit(pytest.main(["--verbose", *where, *sys.argv[1:]]))
