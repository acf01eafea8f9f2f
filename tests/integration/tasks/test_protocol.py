"""The protocol of take, begin, commit, retry, acknowledge, renew, lapse, rescue and purge, against a model of it.

Requests are of one to three owners, so that lanes are shared in some runs and not in others. Owners get and lose caps.

Hypothesis drives the real scripts on a real Redis through interleavings that no test would think of: workers that are
declared dead at any step and go on as if nothing had happened. ``PROTOCOL_EXAMPLES`` sets how many.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import count, takewhile
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from common.settings import Settings
from tasks.protocol import envelope, scripts, usage
from tasks.protocol.allowances import Allowances
from tasks.protocol.keys import Keys
from tasks.protocol.owners import ANONYMOUS, internal_id, owner_of
from tasks.protocol.records import Records
from tasks.protocol.requests import Attempt, AttemptEnd, State
from tasks.protocol.turns import messages
from tasks.worker.channel import take_call
from tasks.worker.ownership import Ownership
from tasks.worker.registration import Registration
from tasks.worker.rescue import Rescuer
from tests.support.oracle import ENDED, OPEN
from tests.support.redis_server import RedisServer

EXAMPLES = int(os.environ.get("PROTOCOL_EXAMPLES", "150"))
LANE = "normal.m"
WORKERS = 2
OWNERS = (ANONYMOUS, "ann", "bob")
MOST_CRASHES = 3

_prefixes = count()


class Worker:
    """A worker reduced to its protocol: what it has taken and begun, whatever Redis thinks of it."""

    def __init__(self, number: int) -> None:
        self.owner = Ownership(f"w{number}")
        self.begun: list[tuple[str, Attempt]] = []
        self.paused: list[tuple[str, str]] = []
        self.looked: set[str] = set()


class Protocol(RuleBasedStateMachine):
    """Every rule is one step of one participant; the invariants are the promises."""

    client: redis.Redis

    tags = Bundle("tags")

    @initialize(caps=st.tuples(*[st.sampled_from([0, 0, 3, 9])] * len(OWNERS)))
    def start(self, caps: tuple[int, ...]) -> None:
        self.keys = Keys(f"p{next(_prefixes)}:")
        self.settings = Settings(key_prefix=self.keys.prefix, max_deliveries=MOST_CRASHES)
        self.records = Records(self.client, self.settings)
        self.registration = Registration(self.client, self.settings)
        self.rescuer = Rescuer(self.client, self.settings)
        self.workers = [Worker(number) for number in range(WORKERS)]
        self.ids: list[str] = []
        self.ended: dict[str, tuple[str, str]] = {}
        self.commits: dict[str, int] = {}
        self.requeued: Counter[str] = Counter()
        self.client.hset(self.keys.owner_caps, mapping=dict(zip(OWNERS, caps, strict=True)))
        for number in range(WORKERS):
            self._renew(number)

    def run_script(self, name: str, keys: tuple[str, ...], *args: object) -> object:
        return scripts.run(self.client, name, keys, [self.keys.prefix, *args])

    @rule(size=st.integers(1, 3), owner=st.sampled_from(OWNERS))
    def accept(self, size: int, owner: str) -> None:
        ids = [internal_id(owner, f"r{len(self.ids) + n}") for n in range(size)]
        allowances = Allowances.read(self.client, self.keys)
        allowance, cap = allowances.of(owner, self.settings), allowances.cap(owner, self.settings)
        args: list[object] = [LANE, envelope.seal(LANE, ids), 1_000_000, 0, 0, allowance, "", 1, LANE]
        for request_id in ids:
            upload = self.keys.upload(request_id)
            self.client.set(upload, b"image", ex=60)
            args += [request_id, json.dumps({"top_k": 1}), "", "", "", 5, "", upload]
        room = max(0, cap - self._open(owner)) if cap else size
        answers: Any = self.run_script("accept", self.keys.lane_and_bell(LANE), *args)
        assert [code for code, _ in answers] == ([1] * room + [-4] * size)[:size]
        self.ids += ids[:room]

    def _open(self, owner: str) -> int:
        records = self.records.get_many([name for name in self.ids if owner_of(name) == owner])
        return sum(not record.state.terminal for record in records)

    @rule(owner=st.sampled_from(OWNERS), cap=st.integers(0, 9))
    def cap(self, owner: str, cap: int) -> None:
        self.client.hset(self.keys.owner_caps, owner, cap)

    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        letters = [name.decode() for name in self.client.zrange(self.keys.dead_letters, 0, -1)]
        if letters:
            name = data.draw(st.sampled_from(sorted(letters)))
            message = envelope.seal(LANE, [name], fresh=True)
            assert self.run_script("requeue", self.keys.lane_and_bell(LANE), name, message) == 1
            self.requeued[owner_of(name)] += 1
            self.ended.pop(name, None)
            self.commits.pop(name, None)

    @rule(target=tags, number=st.integers(0, WORKERS - 1), wanted=st.integers(1, 4), most=st.integers(1, 3))
    def take(self, number: int, wanted: int, most: int) -> object:
        return self._take(number, wanted, most)

    def _take(self, number: int, wanted: int = 1, most: int = 1) -> object:
        owner = self.workers[number].owner
        names = [owner.new_tag() for _ in range(most)]
        before = (
            [] if owner._acknowledged else self._owners_by_start()
        )  # what they have still to pay moves their starts
        places, arguments = take_call(self.keys, owner, [LANE], names, [[LANE]] * most, wanted, 1.0)
        answer: list[Any] = scripts.run(self.client, "take", places, arguments)
        found = []
        for tag, text in zip(names, answer[1::2], strict=False):
            ids = envelope.requests_in(json.loads(text))
            owner.hold(tag, len(ids), len(ids))
            found.append((number, tag, ids))
        if before and found:
            assert owner_of(found[0][2][0]) in before
        assert sum(len(ids) for *_, ids in found[:-1]) < wanted
        return multiple(*found)

    def _owners_by_start(self) -> list[str]:
        """The owners whose turn it is in the lane while it is shared; several that start at the same time."""
        tail = self.client.lindex(self.keys.lane(LANE), -1)
        if not tail or not tail.endswith(b" "):
            return []  # an owner whose messages have no ticket yet may have no start
        rows = self.client.zrange(self.keys.turns(LANE), 0, -1, withscores=True)
        started = [(at, name.decode()) for name, at in rows if self._has_messages(name.decode())]
        return [owner for at, owner in started if at == min(started)[0]]

    def _has_messages(self, owner: str) -> bool:
        return bool(self.client.exists(*self.keys.of_owner(LANE, owner)))

    def _waiting(self) -> list[bytes]:
        return [text for _, text in messages(self.client, self.keys, LANE)]

    @rule(delivery=tags, alone=st.booleans())
    def begin(self, delivery: tuple[int, str, list[str]], alone: bool) -> None:
        number, tag, ids = delivery
        worker = self.workers[number]
        worker.looked.add(tag)
        started = self.records.begin(ids, worker.owner.boot, tag, "toy", alone=alone)
        worker.begun += [(tag, attempt) for attempt in started.attempts]
        worker.paused += [(tag, name) for name in started.suspects]

    @rule(number=st.integers(0, WORKERS - 1), data=st.data(), succeed=st.booleans())
    def commit(self, number: int, data: st.DataObject, succeed: bool) -> None:
        """A failure may leave a dead letter."""
        worker = self.workers[number]
        if not worker.begun:
            return
        tag, attempt = worker.begun.pop(data.draw(st.integers(0, len(worker.begun) - 1)))
        worker.owner.serve(tag, data.draw(st.sampled_from([0.0, 0.5, 1.0, 5.0])))
        state = State.SUCCEEDED if succeed else State.FAILED
        before = self.records.get(attempt.id)
        dead_letter = not succeed and data.draw(st.booleans())
        outcome = AttemptEnd(state=state, result="{}", dead_letter=dead_letter)
        done = self.records.commit(worker.owner.boot, attempt, outcome)
        if done and not before.state.terminal:
            self.commits[attempt.id] = self.commits.get(attempt.id, 0) + 1
            assert before.attempts == attempt.number

    @rule(number=st.integers(0, WORKERS - 1), data=st.data())
    def retry(self, number: int, data: st.DataObject) -> None:
        """What is left of a delivery fails for now, which ends it: a retry is due at once or in an hour."""
        worker = self.workers[number]
        tags = {tag for tag, _ in worker.begun} - {tag for tag, _ in worker.paused}
        if not tags:
            return
        tag = data.draw(st.sampled_from(sorted(tags)))
        failures = [(attempt, {"code": "x"}) for begun, attempt in worker.begun if begun == tag]
        worker.begun = [(begun, attempt) for begun, attempt in worker.begun if begun != tag]
        message = envelope.seal(LANE, [attempt.id for attempt, _ in failures], retries=1)
        delay = data.draw(st.sampled_from([0, 3600]))
        call = worker.owner.boot, tag, LANE, message, delay, failures, worker.owner.unpaid(tag)
        waiting = self.records.retry(*call)
        assert self.records.retry(*call) == waiting
        worker.owner.acknowledge(tag)

    @rule(number=st.integers(0, WORKERS - 1), data=st.data(), stays=st.booleans())
    def set_aside(self, number: int, data: st.DataObject, stays: bool) -> None:
        """What waits behind something slow goes back to its lane, or is queued again with its delivery."""
        worker = self.workers[number]
        if not worker.begun:
            return
        tag, attempt = worker.begun.pop(data.draw(st.integers(0, len(worker.begun) - 1)))
        before = self.records.get(attempt.id)
        message = "" if stays else envelope.seal(LANE, [attempt.id])
        self.records.give_back(worker.owner.boot, tag, LANE, message, [attempt.id])
        if self.records.get(attempt.id).state is not before.state:
            assert self.records.get(attempt.id).attempts == before.attempts - 1
        if stays:
            worker.paused.append((tag, attempt.id))

    @rule(number=st.integers(0, WORKERS - 1), alone=st.booleans())
    def go_on(self, number: int, alone: bool) -> None:
        worker = self.workers[number]
        if worker.paused:
            tag, request_id = worker.paused.pop()
            started = self.records.begin([request_id], worker.owner.boot, tag, "toy", alone=alone)
            worker.begun += [(tag, attempt) for attempt in started.attempts]
            worker.paused += [(tag, name) for name in started.suspects]

    @rule(delivery=consumes(tags))
    def acknowledge(self, delivery: tuple[int, str, list[str]]) -> None:
        """Celery acknowledges when the task has returned: it asked to begin, and nothing of it is being run."""
        number, tag, _ = delivery
        worker = self.workers[number]
        if tag in worker.looked and all(busy != tag for busy, _ in (*worker.begun, *worker.paused)):
            worker.owner.acknowledge(tag)

    @rule(number=st.integers(0, WORKERS - 1))
    def report(self, number: int) -> None:
        self.registration.report(self.workers[number].owner)

    @rule(number=st.integers(0, WORKERS - 1))
    def renew(self, number: int) -> None:
        self._renew(number)

    def _renew(self, number: int) -> None:
        owner = self.workers[number].owner
        answer = self.run_script("renew", (), owner.boot, 60_000, "{}", "0")
        if not answer[0]:  # type: ignore[index]
            self.run_script("renew", (), owner.boot, 60_000, "{}", "1")

    @rule(number=st.integers(0, WORKERS - 1))
    def lapse(self, number: int) -> None:
        """The lease runs out; the worker knows nothing of it."""
        self.client.delete(self.keys.lease(self.workers[number].owner.boot))

    @rule(number=st.integers(0, WORKERS - 1))
    def rescue(self, number: int) -> None:
        """Two rescuers look at the same time and act one after the other; a living worker loses nothing to them."""
        boot = self.workers[number].owner.boot
        lives = self.client.exists(self.keys.lease(boot)) == 1
        held = self.client.hgetall(self.keys.unacked(boot))
        waiting = self.client.llen(self.keys.lane(LANE))
        for _ in range(2):
            for tag, value in held.items():
                self.rescuer._rescue(boot, tag.decode(), value)
            self.run_script("forget", (), boot, "0")
        if lives:
            assert self.client.hgetall(self.keys.unacked(boot)) == held
        assert self.client.llen(self.keys.lane(LANE)) <= waiting + len(held)

    @rule(target=tags, number=st.integers(0, WORKERS - 1))
    def freeze_and_return(self, number: int) -> object:
        """Declared dead, back again and served the same delivery: the old attempt's answer must not count."""
        boot = self.workers[number].owner.boot
        self.client.delete(self.keys.lease(boot))
        self.rescuer.rescue(boot)
        self._renew(number)
        return self._take(number)

    @rule(number=st.integers(0, WORKERS - 1))
    def lose_a_reply(self, number: int) -> None:
        """take ran, its answer got lost with the connection; reconcile finds it."""
        owner = self.workers[number].owner
        scripts.run(self.client, "take", *take_call(self.keys, owner, [LANE], [owner.new_tag()], [[LANE]], 1))
        self.registration._unknown = frozenset()
        self.registration.reconcile(owner)
        self.registration.reconcile(owner)

    @rule()
    def promote(self) -> None:
        self.records.promote()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.ids:
            self.run_script("cancel", (), data.draw(st.sampled_from(self.ids)), "3600/86400")

    @rule(count=st.integers(1, 3), data=st.data())
    def purge(self, count: int, data: st.DataObject) -> None:
        """An operator's purge has read the lane and takes out some of what it read."""
        found = list(messages(self.client, self.keys, LANE))
        for place in data.draw(st.permutations(range(len(found))))[:count]:
            key, text = found[place]
            ids = envelope.requests_in(json.loads(text))
            self.run_script("purge", (self.keys.lane(LANE), key), "3600/86400", '"ann"', text, *ids)
            assert text not in self._waiting() or [text for _, text in found].count(text) > 1

    @invariant()
    def the_length_of_the_lane_is_what_waits(self) -> None:
        if hasattr(self, "keys"):
            assert self.client.llen(self.keys.lane(LANE)) == len(self._waiting())

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "keys"):
            return
        ledger = {name.decode(): int(n) for name, n in self.client.hgetall(self.keys.ledger).items()}
        row = {state: ledger.get(f"{LANE}:{state}", 0) for state in ("accepted", *ENDED, *OPEN)}
        assert row["accepted"] == len(self.ids) == sum(row[state] for state in (*ENDED, *OPEN)), row
        states = [str(request.state) for request in self.records.get_many(self.ids)]
        assert all(row[state] == states.count(state) for state in (*ENDED, *OPEN)), (row, states)

    @invariant()
    def usage_and_open_requests_are_counted_for_their_owner(self) -> None:
        if not hasattr(self, "keys"):
            return
        records = self.records.get_many(self.ids)
        open_ones = Counter(owner_of(record.id) for record in records if not record.state.terminal)
        counted = {owner.decode(): int(count) for owner, count in self.client.hgetall(self.keys.open).items()}
        assert counted == {owner: open_ones[owner] for owner in counted}
        rows = usage.read(self.client, self.keys, OWNERS, 2)
        for owner in OWNERS:
            ended = sum(row["requests"] for row in rows if row["owner"] == owner)
            sent = sum(owner_of(name) == owner for name in self.ids)
            assert ended + open_ones[owner] == sent + self.requeued[owner], owner

    @invariant()
    def an_end_is_final(self) -> None:
        if not hasattr(self, "keys"):
            return
        for request_id in self.ids:
            state, completed = self.client.hmget(self.keys.request(request_id), "state", "completed")
            if request_id in self.ended:
                assert self.ended[request_id] == (state, completed)
            elif State(state.decode()).terminal:
                self.ended[request_id] = (state, completed)
        assert all(commits == 1 for commits in self.commits.values())

    @invariant()
    def open_requests_have_a_message(self) -> None:
        """In the lane, or held by a worker that is registered and will therefore be rescued if it dies."""
        if not hasattr(self, "keys"):
            return
        carrying = self._waiting()
        registered = {boot.decode() for boot in self.client.hkeys(self.keys.workers)}
        for worker in self.workers:
            held = self.client.hgetall(self.keys.unacked(worker.owner.boot))
            assert not held or worker.owner.boot in registered
            carrying += [value.split(b"\n", 1)[1] for value in held.values()]
        carrying += [value.split(b"\n", 1)[1] for value in self.client.zrange(self.keys.retries, 0, -1)]
        carried = {i for m in carrying for i in envelope.requests_in(json.loads(m))}
        for request in self.records.get_many(self.ids):
            assert request.state.terminal or request.id in carried, request

    def teardown(self) -> None:
        """Whatever happened: rescue everybody, let one worker do all that is left, and everything ends."""
        if not hasattr(self, "keys"):
            return
        for worker in self.workers:
            self.client.delete(self.keys.lease(worker.owner.boot))
            self.registration.report(worker.owner)
            self.rescuer.rescue(worker.owner.boot)
        for retry in self.client.zrange(self.keys.retries, 0, -1):
            self.client.zadd(self.keys.retries, {retry: 0})
        while self.records.promote():
            pass
        survivor = Worker(99)
        self.run_script("renew", (), survivor.owner.boot, 60_000, "{}", "1")
        while True:
            tag = survivor.owner.new_tag()
            answer = scripts.run(self.client, "take", *take_call(self.keys, survivor.owner, [LANE], [tag], [[LANE]], 1))
            if len(answer) < 2:
                break
            ids = envelope.requests_in(json.loads(answer[1]))
            for attempt in self.records.begin(ids, survivor.owner.boot, tag, "toy", alone=True).attempts:
                self.records.commit(survivor.owner.boot, attempt, AttemptEnd(state=State.SUCCEEDED, result="{}"))
        assert all(request.state.terminal for request in self.records.get_many(self.ids))
        assert not self.client.keys(f"{self.keys.prefix}[ab]*:{LANE}*")
        idle = f"{self.keys.prefix}idle:{LANE}"
        assert not self.client.exists(self.keys.shared, self.keys.turns(LANE), idle, self.keys.lane(LANE))
        self.books_balance()
        self.an_end_is_final()
        self.usage_and_open_requests_are_counted_for_their_owner()
        keys = self.client.keys(f"{self.keys.prefix}*")
        if keys:
            self.client.delete(*keys)


def run_machine(url: str, examples: int = EXAMPLES, **options: Any) -> None:
    with redis.Redis.from_url(url) as client:
        machine = type("ProtocolOnRedis", (Protocol,), {"client": client})
        chosen = settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **options,
        )
        run_state_machine_as_test(machine, settings=chosen)


def test_no_interleaving_loses_doubles_or_miscounts_a_request(redis_server: RedisServer) -> None:
    run_machine(redis_server.url)


@pytest.mark.parametrize("script", ["take", "rescue", "commit"])
def test_every_script_says_what_it_takes_and_gives(script: str) -> None:
    lines = (scripts.FOLDER / f"{script}.lua").read_text().splitlines()
    comment = "\n".join(takewhile(lambda line: line.startswith("--"), lines))
    assert "ARGV" in comment
    assert "Returns" in comment
