"""Owners take turns inside a lane, by the seconds that their requests take; and what that must not break."""

from __future__ import annotations

import json
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest
import redis

from tasks.control.orders import Controls
from tasks.errors import LaneFull
from tasks.inspect.monitor import Monitor
from tasks.lanes import lanes_of
from tasks.producer.gateway import Accepted, Gateway, Submission
from tasks.protocol import envelope, scripts
from tasks.protocol.keys import Keys
from tasks.protocol.owners import owner_of
from tasks.protocol.requests import Request, State
from tasks.worker.channel import LEAST_COST, take_call
from tasks.worker.ownership import Ownership
from tasks.worker.rescue import Rescuer
from tests.integration.tasks.test_sweep import celery
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.stack import Stack, WorkerProcess
from tests.support.waiting import wait_until

Toy = Callable[..., WorkerProcess]
LANE = "normal.toy"


@pytest.fixture
def gateway(stack: Stack) -> Iterator[Gateway]:
    """Each request travels in a message of its own."""
    with closing(Gateway(stack.settings(MODELS="toy", BATCH_CHUNK=1))) as gateway:
        yield gateway


@pytest.fixture
def raw(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.settings().redis_url) as client:
        yield client


@pytest.fixture
def keys(stack: Stack) -> Keys:
    return Keys(stack.settings().key_prefix)


@pytest.fixture
def controls(stack: Stack) -> Controls:
    return Controls(stack.settings())


def submit(gateway: Gateway, owner: str, count: int = 1, text: str = "ok") -> list[str]:
    items = [Submission(image=text.encode(), model_type="toy", owner=owner) for _ in range(count)]
    answers = gateway.submit_many(items)
    assert all(isinstance(answer, Accepted) for answer in answers), answers
    return [answer.id for answer in answers if isinstance(answer, Accepted)]


def in_order(requests: Sequence[Request]) -> list[Request]:
    return sorted(requests, key=lambda request: request.started_at or 0)


def served(requests: Sequence[Request], most: int) -> Counter[str]:
    """How many of the first requests that started were each owner's."""
    return Counter(owner_of(request.id) for request in in_order(requests)[:most])


def test_one_owners_flood_delays_another_by_a_turn(
    toy: Toy, stack: Stack, monitor: Monitor, controls: Controls
) -> None:
    """Three service times: the pass that runs, the request in hand, and one turn of the other."""
    with closing(Gateway(stack.settings(MODELS="toy", BATCH_CHUNK=1, MAX_QUEUE=20_000))) as gateway:
        flood = submit(gateway, "bob", 10_000, "sleep 0.002")
        toy("toy-1", "-c", "1", MAX_BATCH=1)
        wait_until(lambda: monitor.ledger()[LANE]["succeeded"] > 20)
        single = []
        for _ in range(100):
            single += submit(gateway, "zoe", text="sleep 0.002")
            gateway.wait(single[-1], 10)
        assert controls.purge(LANE, "test") > 3000  # the flood was there all the while
        requests = all_ended(gateway, [*flood, *single], 60)
    check_books(monitor, requests)
    check_answered_once(requests)
    ours = [request for request in requests if request.id in set(single)]
    starts = sorted(request.started_at for request in requests if owner_of(request.id) == "bob" and request.started_at)
    between = sorted(bisect(starts, r.started_at or 0) - bisect(starts, r.created_at) for r in ours)
    assert between[98] <= 3, between


@pytest.mark.parametrize("weight", [1, 2499.75])  # of the largest, a turn costs a ten-millionth of a second
def test_weights_divide_what_is_served(gateway: Gateway, raw: redis.Redis, keys: Keys, weight: float) -> None:
    raw.hset(keys.owner_weights, mapping={"ann": weight, "bob": 2 * weight, "zoe": 4 * weight})
    ids = [i for _ in range(10) for owner in ("ann", "bob", "zoe") for i in submit(gateway, owner, 25)]
    taken = [request_id for _ in range(42) for request_id in take(raw, keys, 10)]  # all have some waiting until then
    counts = Counter(map(owner_of, taken))
    assert [counts[owner] for owner in ("ann", "bob", "zoe")] == pytest.approx([60, 120, 240], rel=0.05)
    for owner in counts:  # and each is served in order
        own = [request_id for request_id in taken if owner_of(request_id) == owner]
        assert own == [request_id for request_id in ids if owner_of(request_id) == owner][: len(own)]


def test_owners_share_the_seconds_of_a_worker_by_their_weights(
    toy: Toy, gateway: Gateway, monitor: Monitor, controls: Controls, raw: redis.Redis, keys: Keys
) -> None:
    """By what was measured, so that those who send slow requests have fewer served."""
    raw.hset(keys.owner_weights, mapping={"bob": 2, "zoe": 4})
    controls.pause(LANE, "test")
    sent = (("ann", 48, "sleep 0.03"), ("bob", 290, "sleep 0.01"), ("zoe", 280, "sleep 0.02"))
    ids = [request_id for owner, number, text in sent for request_id in submit(gateway, owner, number, text)]
    toy("toy-1", "-c", "1", MAX_BATCH=1)
    controls.resume(LANE)
    requests = in_order(all_ended(gateway, ids, 60))
    check_books(monitor, requests)
    owners = [owner_of(request.id) for request in requests]
    until = min(len(owners) - owners[::-1].index(owner) for owner, *_ in sent)  # then one has nothing waiting any more
    seconds: Counter[str] = Counter()
    for request in requests[:until]:
        seconds[owner_of(request.id)] += request.timings["infer"] + request.timings["decode"]  # type: ignore[assignment]
    shares = [7 * seconds[owner] / seconds.total() for owner, *_ in sent]
    assert shares == pytest.approx([1, 2, 4], rel=0.05), until


def test_a_killed_workers_requests_keep_their_turns(toy: Toy, gateway: Gateway, monitor: Monitor) -> None:
    ids = [
        request_id
        for _ in range(20)
        for owner in ("ann", "bob", "anonymous")
        for request_id in submit(gateway, owner, 10, "sleep 0.01")
    ]
    victim = toy("victim", MAX_BATCH=4)
    wait_until(lambda: monitor.ledger()[LANE]["succeeded"] > 30)
    victim.kill()
    toy("other", MAX_BATCH=4)
    requests = all_ended(gateway, ids, 60)
    assert monitor.counters()["rescued"] > 0
    assert {request.state for request in requests} == {State.SUCCEEDED}
    check_answered_once(requests)
    check_books(monitor, requests)


def test_what_a_dead_worker_held_comes_next_in_its_owners_turn(
    stack: Stack, gateway: Gateway, raw: redis.Redis, keys: Keys
) -> None:
    ids = {owner: submit(gateway, owner, 20) for owner in ("ann", "bob", "zoe")}
    dead = registered(raw, keys, "dead")
    held = take(raw, keys, 9, dead)
    raw.delete(keys.lease(dead.boot))
    assert Rescuer(raw, stack.settings()).rescue(dead.boot) == 9
    taken = take(raw, keys, 60)
    assert {*taken[:18]} >= {*held}
    for owner, sent in ids.items():
        assert [request_id for request_id in taken if owner_of(request_id) == owner] == sent
        assert sum(owner_of(request_id) == owner for request_id in taken[:30]) == 10


@pytest.mark.parametrize("retried", [False, True], ids=["acknowledged", "retried"])
@pytest.mark.parametrize("more", [0, 1], ids=["nothing waits", "one waits"])
def test_an_owner_pays_for_what_its_requests_took_longer_than_expected(
    gateway: Gateway, raw: redis.Redis, keys: Keys, more: int, retried: bool
) -> None:
    """Also if others' turns have passed meanwhile, and it had nothing waiting then."""
    submit(gateway, "bob", 200)
    slow = submit(gateway, "zoe", 1 + more)[0]
    busy = registered(raw, keys, "busy")
    lanes, tags = lanes_of("toy"), [busy.new_tag() for _ in range(2)]
    answer = scripts.run(raw, "take", *take_call(keys, busy, lanes, tags, [lanes] * 2, 2))
    tag = next(tag for tag, text in zip(tags, answer[1::2], strict=True) if slow.encode() in text)
    busy.hold(tag, charged=LEAST_COST)
    take(raw, keys, 20 if not more else 1)
    busy.serve(tag, 0.1)
    if retried:
        (attempt,) = gateway.records.begin([slow], busy.boot, tag, "toy").attempts
        again = envelope.seal(LANE, [slow], retries=1)
        assert gateway.records.retry(busy.boot, tag, LANE, again, 3600, [(attempt, {})], busy.unpaid(tag)) == 1
    else:
        busy.acknowledge(tag)
        scripts.run(raw, "take", *take_call(keys, busy, lanes, [busy.new_tag()], [lanes], 1))
    submit(gateway, "zoe")
    place = [owner_of(request_id) for request_id in take(raw, keys, 150)].index("zoe")
    assert 75 <= place <= 100  # bob has had as many seconds by then


def test_batches_of_owners_alternate(toy: Toy, stack: Stack, monitor: Monitor, controls: Controls) -> None:
    controls.pause(LANE, "test")
    with closing(Gateway(stack.settings(MODELS="toy", BATCH_CHUNK=8))) as gateway:
        ids = submit(gateway, "bob", 160) + submit(gateway, "ann", 40)
        toy("toy-1", "-c", "1", MAX_BATCH=4)
        controls.resume(LANE)
        requests = all_ended(gateway, ids, 30)
    assert served(requests, 96)["ann"] == 40
    check_books(monitor, requests)


class TestWhatOthersDoToASharedLane:
    @pytest.fixture
    def ids(self, gateway: Gateway, raw: redis.Redis, keys: Keys) -> list[str]:
        """Forty requests of each of three owners; of the first, half are older than the sharing."""
        found = [i for _ in range(2) for owner in ("ann", "bob", "zoe") for i in submit(gateway, owner, 20)]
        assert raw.llen(keys.lane(LANE)) == 120
        return found

    def ended(self, gateway: Gateway, monitor: Monitor, ids: Sequence[str]) -> None:
        requests = all_ended(gateway, ids, 40)
        assert {request.state for request in requests} == {State.SUCCEEDED}
        check_answered_once(requests)
        check_books(monitor, requests)

    def test_an_operators_purge_cancels_all(
        self, controls: Controls, ids: list[str], gateway: Gateway, monitor: Monitor, raw: redis.Redis, keys: Keys
    ) -> None:
        take(raw, keys, 7)
        assert controls.purge(LANE, "ann") == 113
        assert raw.llen(keys.lane(LANE)) == 0
        assert not raw.keys(f"{keys.prefix}ahead:*") + raw.keys(f"{keys.prefix}behind:*")
        assert Counter(str(r.state) for r in gateway.records.get_many(ids)) == {"canceled": 113, "queued": 7}
        assert next(row["oldest_age"] for row in monitor.lanes() if row["lane"] == LANE) is None

    def test_celery_purge_loses_no_request(
        self, toy: Toy, stack: Stack, ids: list[str], gateway: Gateway, monitor: Monitor
    ) -> None:
        celery(stack, "purge", "--force", f"--queues={LANE}")
        toy("toy-1")
        self.ended(gateway, monitor, ids)

    def test_popping_elements_loses_no_request(
        self, toy: Toy, ids: list[str], gateway: Gateway, monitor: Monitor, raw: redis.Redis, keys: Keys
    ) -> None:
        """Messages older than the sharing, which were nowhere else, and tickets, whose messages are."""
        raw.rpop(keys.lane(LANE), 10)
        raw.lpop(keys.lane(LANE), 10)
        toy("toy-1")
        self.ended(gateway, monitor, ids)
        assert monitor.counters()["republished"] == 10

    def test_a_worker_of_an_older_release_gets_messages_it_can_run(
        self, toy: Toy, ids: list[str], gateway: Gateway, monitor: Monitor, raw: redis.Redis, keys: Keys
    ) -> None:
        """It pops elements: a message that was not shared, or a ticket, which shows one that others may run too."""
        old = registered(raw, keys, "old")
        for pop in (raw.rpop, raw.lpop):
            text = pop(keys.lane(LANE))
            assert isinstance(text, bytes)
            tag = old.new_tag()
            raw.hset(keys.unacked(old.boot), tag, f"{LANE}\n{text.decode()}")
            started = gateway.records.begin(envelope.requests_in(json.loads(text)), old.boot, tag, "toy")
            assert len(started.attempts) == 1
        toy("toy-1")
        raw.delete(keys.lease(old.boot))
        self.ended(gateway, monitor, ids)

    def test_messages_of_older_releases_join_their_owners(
        self, toy: Toy, ids: list[str], gateway: Gateway, monitor: Monitor, raw: redis.Redis, keys: Keys
    ) -> None:
        raw.lpush(keys.lane(LANE), *(envelope.seal(LANE, [i]) for i in ids[:3]))
        raw.rpush(keys.lane(LANE), envelope.seal(LANE, [ids[4]]))
        toy("toy-1")
        self.ended(gateway, monitor, ids)

    def test_position_and_wait_are_the_owners(
        self, ids: list[str], gateway: Gateway, monitor: Monitor, raw: redis.Redis, keys: Keys
    ) -> None:
        registered(raw, keys, "idle")
        late = submit(gateway, "late")[0]
        assert monitor.queue_position(gateway.get(late)) == 4  # after one of each other owner
        assert monitor.eta(gateway.get(late)) == pytest.approx(7)  # another one's, after it
        last = monitor.queue_position(gateway.get(ids[-1]))
        assert last is not None
        assert 110 <= last <= 121
        assert (monitor.eta(gateway.get(ids[-1])) or 0) == pytest.approx(121, abs=2)


def registered(client: redis.Redis, keys: Keys, name: str) -> Ownership:
    """A worker that only this test knows not to be a process."""
    owner, row = Ownership(name), {"id": name, "model": "toy", "state": "idle", "service_seconds": 1.0, "pid": 0}
    scripts.run(client, "renew", (), [keys.prefix, owner.boot, 60_000, json.dumps(row), "1"])
    return owner


def take(client: redis.Redis, keys: Keys, wanted: int, owner: Ownership | None = None) -> list[str]:
    """Take so many messages as a worker would."""
    owner, lanes = registered(client, keys, "taker") if owner is None else owner, lanes_of("toy")
    tags = [owner.new_tag() for _ in range(wanted)]
    answer = scripts.run(client, "take", *take_call(keys, owner, lanes, tags, [lanes] * wanted, wanted))
    return [name for text in answer[1::2] for name in envelope.requests_in(json.loads(text))]


def test_lanes_that_one_owner_has_filled_accept_a_few_requests_of_another(
    stack: Stack, monitor: Monitor, raw: redis.Redis, keys: Keys
) -> None:
    with closing(Gateway(stack.settings(MODELS="toy", MAX_QUEUE=1000, BATCH_CHUNK=1))) as gateway:
        for owner, most in (("bob", 800), ("zoe", 10), ("ann", 10), ("bob", 0)):
            items = [Submission(image=b"ok", model_type="toy", owner=owner) for _ in range(most + 5)]
            answers = gateway.submit_many(items)
            assert [isinstance(answer, LaneFull) for answer in answers] == [False] * most + [True] * 5
    assert monitor.ledger()[LANE]["queued"] == raw.llen(keys.lane(LANE)) == 820


def test_the_weights_of_api_keys_reach_the_scripts(stack: Stack, raw: redis.Redis, keys: Keys) -> None:
    entries = f"ann:user:{'0' * 64}:0.5,bob:user:{'1' * 64}"
    raw.hset(keys.owner_weights, "bob", 7)  # from when its entry had a weight
    with closing(Gateway(stack.settings(MODELS="toy", API_KEYS=entries, BATCH_CHUNK=1))) as gateway:
        for owner in ("ann", "bob"):
            submit(gateway, owner, 20)
    assert Counter(map(owner_of, take(raw, keys, 15))) == {"ann": 5, "bob": 10}


def calls(client: redis.Redis, action: Callable[[], object]) -> int:
    """How many commands an action runs, those of scripts included."""

    def total() -> int:
        stats = client.info("commandstats")
        return sum(
            row["calls"] for name, row in stats.items() if name not in {"cmdstat_info", "cmdstat_config|resetstat"}
        )

    before = total()
    action()
    return total() - before


def test_with_one_owner_an_accept_and_a_take_cost_what_they_did(gateway: Gateway, raw: redis.Redis, keys: Keys) -> None:
    """The number is that of a take without turns."""
    owner = registered(raw, keys, "taker")
    submit(gateway, "ann", 4)
    lanes = lanes_of("toy")
    call = take_call(keys, owner, lanes, ["1", "2"], [lanes, lanes], 2)
    scripts.run(raw, "take", *call)
    assert calls(raw, lambda: scripts.run(raw, "take", *call)) == 11
    submit(gateway, "bob")
    assert calls(raw, lambda: scripts.run(raw, "take", *call)) > 11


@pytest.mark.parametrize("backlog", [100, 10_000])
def test_a_take_from_a_shared_lane_is_as_fast_with_ten_thousand_messages(
    backlog: int, gateway: Gateway, raw: redis.Redis, keys: Keys
) -> None:
    texts = [envelope.seal(LANE, [f"bob/{number}"]) for number in range(backlog)]
    for start in range(0, backlog, 1000):
        raw.lpush(keys.lane(LANE), *texts[start : start + 1000])
    submit(gateway, "ann", 3)
    taken = take(raw, keys, 6)
    assert Counter(map(owner_of, taken)) == {"ann": 3, "bob": 3}
    assert raw.llen(keys.lane(LANE)) == backlog - 3
