"""What goes through the pipeline together, what must not, and that nothing that goes wrong with one delivery reaches
another.

The records are a stand-in that does as a request's name says: when Redis fails in a round trip cannot be timed from
outside. A request's model does as its image says, which is its name.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tasks.errors import BrokerUnavailable, TransientFailure
from tasks.protocol.records import Records
from tasks.protocol.requests import Attempt, AttemptEnd, Started
from tasks.worker.delivery import Delivery
from tasks.worker.ownership import Ownership
from tasks.worker.pipeline import SLOW, Pipeline
from tests.support.waiting import wait_until
from worker_models.errors import InferenceFailed, InvalidInput
from worker_models.model import BatcherShape

LANE = "normal.m"


def attempt(name: str) -> Attempt:
    spec = {"top_k": 1}
    return Attempt(id=name, model="m", number=1, spec=spec, image=name.encode(), created_at=0.0, started_at=0.0)


@dataclass
class Book:
    """Records that begin what is not called ``gone`` or ``suspect``, those alone, and note what they are asked."""

    begun: list[list[str]] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    returned: dict[str, str] = field(default_factory=dict)
    canceled: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def begin_all(self, held: Sequence[tuple[Sequence[str], str]], *_: str) -> list[Started]:
        self.reached.set()
        assert self.gate.wait(10)
        names = [name for ids, _ in held for name in ids]
        self.begun.append(names)
        if "damaged" in names:
            raise ValueError("damaged")
        return [
            Started(
                [attempt(name) for name in ids if not name.startswith(("gone", "suspect"))],
                [name for name in ids if name.startswith("suspect")],
            )
            for ids, _ in held
        ]

    def begin(self, ids: Sequence[str], *_: str, alone: bool = False) -> Started:
        if alone:
            self.alone += ids
        return Started([attempt(name) for name in ids if name not in self.canceled])

    def commit_all(self, _: str, ends: Sequence[tuple[Attempt, AttemptEnd]]) -> list[bool]:
        names = [found.id for found, _ in ends]
        self.commits.append(names)
        if "lost" in names:
            raise BrokerUnavailable("Redis went away")
        self.ended |= {found.id: str(outcome.state) for found, outcome in ends}
        return [True] * len(names)

    def give_back(self, _: str, __: str, ___: str, message: str, ids: Sequence[str]) -> bool:
        self.returned |= dict.fromkeys(ids, message)
        return True


class Plain:
    """A model that answers what it is given; it waits at the gate for what is called ``long``."""

    name = "m"
    weights = "none"
    runtime = "python"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.passes: list[list[str]] = []

    def decode(self, data: bytes) -> str:
        if data == b"no image":
            raise InvalidInput("no image")
        return data.decode()

    def infer(self, batch: Sequence[str]) -> Sequence[str]:
        self.passes.append(list(batch))
        if any(name.startswith("long") for name in batch):
            assert self.gate.wait(10)
        if "later" in batch:
            raise InferenceFailed("later")
        return batch

    def predictions(self, output: str, _: int) -> list[dict[str, Any]]:
        return [{"class": output, "index": 0, "confidence": 1.0}]


class Bench:
    """A pipeline on a book and a plain model; ``told`` has the deliveries that have ended by their requests."""

    def __init__(self, max_batch: int = 4) -> None:
        self.book, self.model, self.owner = Book(), Plain(), Ownership("w")
        self.book.gate.set()
        self.told: dict[str, Delivery] = {}
        shape = BatcherShape(max_batch, 1)
        self.owner.batch = max_batch
        records = cast("Records", self.book)
        self.pipeline = Pipeline(cast("Any", self.model), self.model.infer, shape, records, self.owner, decoders=2)
        self.owner.most = self.pipeline.most
        self._tags = iter(range(1000))

    def put(self, *deliveries: str) -> None:
        """Each delivery by its requests, separated by commas."""
        for name in deliveries:
            ids, tag = name.split(","), str(next(self._tags))
            self.owner.hold(tag, len(ids))
            self.pipeline.put(Delivery(ids=ids, tag=tag, lane=LANE, ended=self._tell))

    def _tell(self, delivery: Delivery) -> None:
        name = ",".join(delivery.ids)
        assert name not in self.told
        self.told[name] = delivery

    def together(self, first: str, *others: str) -> None:
        """Hold the starter at the first, so that the others come together."""
        self.book.gate.clear()
        self.book.reached.clear()
        self.put(first)
        assert self.book.reached.wait(5)
        self.put(*others)
        self.book.gate.set()

    def done(self) -> dict[str, Delivery]:
        self.model.gate.set()
        self.pipeline.close()
        assert self.pipeline.in_flight == 0
        return self.told

    def until_slow(self) -> None:
        wait_until(lambda: self.pipeline.slow, 2 * SLOW + 2)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_waits_is_begun_in_one_round_trip(bench: Bench) -> None:
    bench.together("a", "b", "c,d")
    assert sorted(bench.done()) == ["a", "b", "c,d"]
    assert bench.book.begun == [["a"], ["b", "c", "d"]]
    assert bench.book.ended == dict.fromkeys("abcd", "succeeded")


def test_a_delivery_that_cannot_be_begun_keeps_no_other_from_it(bench: Bench) -> None:
    bench.together("first", "a", "damaged", "b")
    told = bench.done()
    assert bench.book.begun[1:] == [["a", "damaged", "b"], ["a"], ["damaged"], ["b"]]
    with pytest.raises(ValueError, match="damaged"):
        told["damaged"].check()
    for name in ("first", "a", "b"):
        told[name].check()


def test_a_delivery_is_told_of_when_its_last_request_has_ended_also_without_any(bench: Bench) -> None:
    bench.put("a,no image,gone", "gone", "suspect,b")
    assert [delivery.unfinished for delivery in bench.done().values()] == [0, 0, 0]
    assert bench.book.ended == {"a": "succeeded", "b": "succeeded", "no image": "failed", "suspect": "succeeded"}


def test_what_failed_for_now_is_its_own_deliverys_failure(bench: Bench) -> None:
    bench.put("a", "b,later")
    told = bench.done()
    told["a"].check()
    with pytest.raises(TransientFailure, match="1 of 2 requests failed for now: later"):
        told["b,later"].check()
    assert [failed.id for failed, _ in told["b,later"].failures] == ["later"]
    assert bench.book.ended == dict.fromkeys("ab", "succeeded")


def test_a_round_trip_that_fails_gives_back_what_was_in_it(bench: Bench) -> None:
    bench.put("lost")
    wait_until(lambda: bench.told)
    bench.put("a")
    told = bench.done()
    with pytest.raises(BrokerUnavailable):
        told["lost"].check()
    told["a"].check()


def test_a_suspect_begins_when_nothing_else_runs_and_shares_its_pass_with_nothing(bench: Bench) -> None:
    bench.put("long")
    wait_until(lambda: bench.model.passes)
    bench.put("suspect 1,other", "suspect 2", "after")
    wait_until(lambda: len(bench.book.begun) > 1)
    assert bench.book.alone == []
    bench.done()
    assert bench.book.alone == ["suspect 1", "suspect 2"]
    assert ["suspect 1"] in bench.model.passes
    assert ["suspect 2"] in bench.model.passes
    assert len(bench.book.ended) == 5


def test_what_waits_behind_a_slow_pass_goes_to_a_worker_that_is_free(bench: Bench) -> None:
    bench.put("long")
    wait_until(lambda: bench.model.passes)
    bench.put("a,b")
    bench.put("suspect")
    wait_until(lambda: bench.pipeline.batcher.waiting == 2)
    bench.pipeline.tick(frozenset({"m"}))
    assert bench.book.returned == {}, "nothing is slow yet"
    bench.until_slow()
    wait_until(lambda: bench.pipeline.tick(frozenset({"m"})) or len(bench.book.returned) == 3)
    assert [sorted(json.loads(json.loads(bench.book.returned[name])["body"])[0][0]) for name in ("a", "suspect")] == [
        ["a", "b"],
        ["suspect"],
    ]
    wait_until(lambda: len(bench.told) == 2)
    assert bench.owner.room() == 0, "nothing is taken ahead"
    bench.done()["a,b"].check()
    assert bench.book.ended == {"long": "succeeded"}
    assert bench.owner.room() > 0


def test_what_waits_behind_a_slow_pass_is_queued_again_where_no_other_worker_is_free(bench: Bench) -> None:
    bench.put("long")
    wait_until(lambda: bench.model.passes)
    bench.put("a,canceled,b")
    wait_until(lambda: bench.pipeline.batcher.waiting == 3)
    bench.until_slow()
    wait_until(lambda: bench.pipeline.tick(frozenset({"other"})) or len(bench.book.returned) == 3)
    assert set(bench.book.returned.values()) == {""}, "it stays here"
    wait_until(lambda: bench.pipeline.batcher.waiting == 3)
    bench.pipeline.tick(frozenset())
    bench.book.canceled.add("canceled")
    told = bench.done()
    told["a,canceled,b"].check()
    assert [sorted(names) for names in bench.model.passes] == [["long"], ["a", "b"]]
    assert bench.book.ended == dict.fromkeys(("long", "a", "b"), "succeeded")


def test_a_pipeline_that_loses_a_thread_ends_its_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr("tasks.worker.stage.end_process", ended.set)

    def fails(_: Delivery) -> None:
        raise SystemExit("a fault of ours")

    bench.pipeline.put(Delivery(ids=["a"], tag="0", lane=LANE, ended=fails))
    assert ended.wait(5)
