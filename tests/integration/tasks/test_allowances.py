"""Caps of open requests and monthly quotas: exact, whoever sends at the same time, and only for their owner."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import redis

from tasks.control.dead_letters import DeadLetters
from tasks.errors import QuotaExceeded, TaskError, TooManyOpen
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol.keys import Keys
from tasks.protocol.requests import State
from tests.support.oracle import all_ended
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
Gateways = Callable[..., Gateway]


@pytest.fixture
def keys(stack: Stack) -> Keys:
    return Keys(stack.settings().key_prefix)


@pytest.fixture
def raw(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.settings().redis_url) as client:
        yield client


@pytest.fixture
def gateways(stack: Stack) -> Iterator[Gateways]:
    """API processes, each with the given settings; each request travels in a message of its own."""
    made: list[Gateway] = []

    def start(**settings: object) -> Gateway:
        made.append(Gateway(stack.settings(MODELS="toy", BATCH_CHUNK=1, **settings)))
        return made[-1]

    yield start
    for gateway in made:
        gateway.close()


def photo(owner: str = "ann", text: str = "ok", **more: object) -> Submission:
    return Submission(image=text.encode(), model_type="toy", owner=owner, **more)  # type: ignore[arg-type]


def send(gateway: Gateway, count: int = 1, owner: str = "ann", text: str = "ok") -> list[Accepted | TaskError]:
    return gateway.submit_many([photo(owner, text) for _ in range(count)])


def accepted(answers: list[Accepted | TaskError]) -> list[str]:
    return [answer.id for answer in answers if isinstance(answer, Accepted)]


def together(processes: list[Gateway]) -> list[Accepted | TaskError]:
    """What forty callers of these processes get at the same time."""
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(send, processes[number % len(processes)]) for number in range(40)]
        return [answer for call in calls for answer in call.result()]


def test_a_cap_is_exact_however_many_send(gateways: Gateways, keys: Keys, raw: redis.Redis, monitor: Monitor) -> None:
    processes = [gateways(MAX_OPEN_PER_OWNER=7) for _ in range(2)]
    answers = together(processes)
    open_ones = accepted(answers)
    refused = [answer for answer in answers if isinstance(answer, TooManyOpen)]
    assert (len(open_ones), len(refused)) == (7, 33)
    assert refused[0].members == {"open": 7, "limit": 7}
    assert total(monitor, "refused") == 33
    processes[1].cancel(open_ones[0])
    assert len(accepted(send(processes[0], 3))) == 1
    assert len(accepted(send(processes[0], 9, "bob"))) == 7, "another owner has a cap of its own"
    assert raw.hgetall(keys.open) == {b"ann": b"7", b"bob": b"7"}
    assert not list(raw.scan_iter(keys.upload("*")))


def total(monitor: Monitor, what: str, owner: str = "ann") -> float:
    return sum(row[what] for row in monitor.usage(owner))


def test_a_cap_in_redis_is_effective_within_a_second_and_counts_what_is_open(
    gateways: Gateways, keys: Keys, raw: redis.Redis
) -> None:
    def exactly() -> int:
        return raw.zcard(keys.recent_of("ann")) - 1  # one is canceled

    first, second = gateways(), gateways()
    before = accepted(send(first, 5)) + accepted(send(second, 5))
    assert not raw.exists(keys.open)
    first.cancel(before.pop())
    raw.hset(keys.owner_caps, "ann", 10)
    began = time.monotonic()
    later = [wait_until(lambda process=process: not accepted(send(process)), 5) for process in (first, second)]
    assert all(later)
    assert time.monotonic() - began < 2
    raw.hset(keys.owner_caps, "ann", 0)  # none, whatever the settings say
    wait_until(lambda: len(accepted(send(first, 20))) == 20, what="the cap is gone")
    wait_until(lambda: len(accepted(send(second, 20))) == 20, what="the cap is gone there, too")
    # One that a process accepted before it knew of the cap is counted soon.
    raw.hset(keys.owner_caps, "ann", 1)
    wait_until(lambda: not accepted(send(first)) and int(raw.hget(keys.open, "ann") or 0) == exactly(), what="a count")


def test_a_replay_is_not_refused_at_the_cap(gateways: Gateways) -> None:
    gateway = gateways(MAX_OPEN_PER_OWNER=1, MONTHLY_QUOTA=1)
    again = photo(request_id="once", fingerprint="f")
    assert not gateway.submit(again).replayed
    assert gateway.submit(again).replayed
    with pytest.raises(TooManyOpen):
        gateway.submit(photo())
    assert gateway.submit(again).replayed


def test_all_or_none_of_a_call_fit_the_cap(gateways: Gateways, raw: redis.Redis, keys: Keys, monitor: Monitor) -> None:
    gateway = gateways(MAX_OPEN_PER_OWNER=4)
    with pytest.raises(TooManyOpen):
        gateway.publisher.submit_all([photo() for _ in range(5)])
    assert raw.hget(keys.open, "ann") == b"0"
    assert total(monitor, "refused") == monitor.counters()["refused"] == 1
    assert len(gateway.publisher.submit_all([photo() for _ in range(4)])) == 4
    with pytest.raises(TooManyOpen):
        gateway.publisher.submit_all([photo() for _ in range(2)])
    assert total(monitor, "refused") == 3


def test_retry_after_is_when_one_of_the_owners_requests_ends(toy: Toy, gateways: Gateways, monitor: Monitor) -> None:
    """Not when the backlog of others is served."""
    toy("toy-1", "-c", "1", MAX_BATCH=1)
    gateway = gateways(MAX_OPEN_PER_OWNER=3)
    all_ended(gateway, accepted(send(gateway, 1, "bob", "sleep 0.4")), 10)
    wait_until(lambda: monitor.workers()[0]["service_seconds"] > 0.3, what="a measured service time")
    loose = gateways()
    accepted(send(loose, 60, "bob", "sleep 0.4"))
    ours = accepted(send(gateway, 3, text="sleep 0.4"))
    fresh = gateways(MAX_OPEN_PER_OWNER=3)  # has read the load since
    with pytest.raises(TooManyOpen) as refusal:
        fresh.submit(photo())
    assert refusal.value.retry_after is not None
    assert 0.4 <= refusal.value.retry_after < 3  # bob alone would take 24 s
    ends = time.monotonic() + refusal.value.retry_after + 2
    one = wait_until(lambda: [r for r in fresh.records.get_many(ours) if r.state.terminal], 10, what="one ends")
    assert one
    assert time.monotonic() < ends
    assert len(accepted(send(fresh))) == 1


def test_a_quota_is_exact_and_counts_as_usage_does(
    toy: Toy, gateways: Gateways, raw: redis.Redis, keys: Keys, stack: Stack
) -> None:
    month = Monitor(stack.settings(MODELS="toy", MONTHLY_QUOTA=10))
    before = gateways()
    ended = accepted(send(before, 2)) + accepted(send(before, 1, text="error"))
    last_month = accepted(send(before, 3, "bob"))
    worker = toy("toy-1", MAX_RETRIES=0)
    all_ended(before, [*ended, *last_month], 20)
    worker.stop()
    raw.rename(_today(raw, keys, "bob"), keys.usage(f"bob:{_days() - 31}"))
    before.cancel(accepted(send(before))[0])
    waiting = accepted(send(before, 2))
    assert _used(month) == (10, 6, 4)
    processes = [gateways(MONTHLY_QUOTA=10) for _ in range(2)]
    answers = together(processes)
    assert len(accepted(answers)) == 4
    refusal = next(answer for answer in answers if isinstance(answer, QuotaExceeded))
    now = datetime.now(UTC)
    end = now.replace(year=now.year + now.month // 12, month=now.month % 12 + 1, day=1, hour=0, minute=0, second=0,
                      microsecond=0)  # fmt: skip
    assert refusal.members == {"used": 10, "limit": 10, "resets": f"{end:%Y-%m-%dT%H:%M:%S.000Z}"}
    assert refusal.retry_after == pytest.approx((end - now).total_seconds(), abs=60)
    assert _used(month) == (10, 10, 0)
    before.cancel(waiting[0])  # it was accepted: that counts
    with pytest.raises(QuotaExceeded):
        processes[0].submit(photo())
    DeadLetters(stack.settings(MODELS="toy")).requeue(ended[2])  # another life counts again, as in the usage
    assert _used(month) == (10, 11, 0)
    assert total(month, "requests") + int(raw.hget(keys.open, "ann") or 0) == 11
    assert len(accepted(send(processes[0], 12, "bob"))) == 10, "the last month is over"


def _days() -> int:
    return int(time.time()) // 86_400


def _today(raw: redis.Redis, keys: Keys, owner: str) -> bytes:
    (name,) = raw.scan_iter(keys.usage(f"{owner}:*"))
    return bytes(name)


def _used(monitor: Monitor) -> tuple[int, ...]:
    quota = monitor.quota("ann") or {}
    assert {row["owner"]: row["quota"] for row in monitor.owners()}["ann"] == quota
    return quota["limit"], quota["used"], quota["left"]


def test_a_killed_workers_requests_stay_open_until_they_end(
    toy: Toy, gateways: Gateways, raw: redis.Redis, keys: Keys
) -> None:
    gateway = gateways(MAX_OPEN_PER_OWNER=6)
    first = toy("first", "-c", "1", MAX_BATCH=1)
    ids = accepted(send(gateway, 6, text="sleep 0.3"))
    wait_until(lambda: gateway.get(ids[0]).state is State.RUNNING, what="one runs")
    first.kill()
    assert accepted(send(gateway)) == []
    toy("second")
    all_ended(gateway, ids, 30)
    assert raw.hget(keys.open, "ann") == b"0"
    assert len(accepted(send(gateway, 8, text="sleep 0.3"))) == 6


def test_without_caps_and_quotas_nothing_is_counted(gateways: Gateways, raw: redis.Redis, keys: Keys) -> None:
    gateway = gateways()
    with raw.monitor() as watched:
        (name,) = accepted(send(gateway))
        gateway.cancel(name)
        raw.set("end", 1)
        commands = []
        for command in watched.listen():
            if command["command"].startswith("SET end"):
                break
            commands.append(command["command"])
    assert [line for line in commands if f"HSET {keys.request(name)} state" in line]
    assert not [line for line in commands if keys.open in line and line.startswith("H") and "hkeys" not in line.lower()]
