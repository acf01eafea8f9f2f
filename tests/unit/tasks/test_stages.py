"""What goes through the stages together, and that nothing that goes wrong with one delivery reaches another.

The engine here is a stand-in that does as it is told: when Redis fails in a round trip cannot be timed from outside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tasks.engine import Delivery, Engine, Entry
from tasks.errors import Unavailable
from tasks.requests import Attempt
from tasks.stages import Stages, Work
from tests.support.waiting import wait_until
from worker_models.errors import InvalidInput


def attempt(name: str) -> Attempt:
    crashes = int(name.startswith("suspect"))
    return Attempt(id=name, model="m", number=1, crashes=crashes, spec={}, image=b"", created_at=0.0, started_at=0.0)


@dataclass
class Told:
    """An engine that runs what is not called ``gone``, and fails as a request's name says."""

    begun: list[list[str]] = field(default_factory=list)
    committed: list[list[str]] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def begin(self, deliveries: Sequence[Delivery]) -> list[list[Attempt]]:
        assert self.gate.wait(10)
        ids = [name for delivery in deliveries for name in delivery.ids]
        self.begun.append(ids)
        if "damaged" in ids:
            raise ValueError("damaged")
        return [[attempt(name) for name in delivery.ids if name != "gone"] for delivery in deliveries]

    def start(self, entry: Entry, then: Callable[[Any], object]) -> Entry:
        if entry.attempt.id == "no image":
            entry.error = InvalidInput("no image")
        else:
            then(cast("Any", object()))
        return entry

    def finish(self, entries: Sequence[Entry]) -> list[Exception | None]:
        names = [entry.attempt.id for entry in entries]
        self.committed.append(names)
        if "lost" in names:
            raise Unavailable("Redis went away")
        return [OSError(name) if name == "later" else None for name in names]

    def run_alone(self, entry: Entry) -> list[Exception | None]:
        self.alone.append(entry.attempt.id)
        return [None]


@pytest.fixture
def engine() -> Told:
    made = Told()
    made.gate.set()
    return made


def perform(engine: Told, *deliveries: str, together: bool = False) -> dict[str, Work]:
    """Each delivery by its requests, separated by commas, as it was told of."""
    told: dict[str, Work] = {}

    def tell(name: str) -> Callable[[Work], None]:
        def once(work: Work) -> None:
            assert name not in told
            told[name] = work

        return once

    stages = Stages(cast("Engine", engine), decoders=2)
    if together:
        engine.gate.clear()
    for tag, name in enumerate(deliveries):
        stages.put(Work(Delivery(name.split(","), str(tag)), tell(name)))
        if together and not tag:  # the first holds the starter while the others come together
            wait_until(stages._new.empty, 5)
    engine.gate.set()
    stages.close()
    return told


def test_what_waits_is_begun_in_one_round_trip(engine: Told) -> None:
    told = perform(engine, "a", "b", "c,d", together=True)
    assert engine.begun == [["a"], ["b", "c", "d"]]
    assert sorted(told) == ["a", "b", "c,d"]
    assert sorted(name for names in engine.committed for name in names) == ["a", "b", "c", "d"]


def test_a_delivery_that_cannot_be_begun_keeps_no_other_from_it(engine: Told) -> None:
    told = perform(engine, "first", "a", "damaged", "b", together=True)
    assert engine.begun[1:] == [["a", "damaged", "b"], ["a"], ["damaged"], ["b"]]
    with pytest.raises(ValueError, match="damaged"):
        told["damaged"].outcome()
    assert [told[name].outcome() for name in ("first", "a", "b")] == [[], [], []]


def test_a_delivery_is_told_of_when_its_last_request_has_ended_also_without_any(engine: Told) -> None:
    told = perform(engine, "a,no image,gone", "gone", "suspect,b")
    assert [work.left for work in told.values()] == [0, 0, 0]
    assert sorted(name for names in engine.committed for name in names) == ["a", "b", "no image"]
    assert engine.alone == ["suspect"]


def test_what_failed_for_now_is_its_own_deliverys_failure(engine: Told) -> None:
    told = perform(engine, "a", "b,later")
    assert told["a"].outcome() == []
    assert [str(failure) for failure in told["b,later"].outcome()] == ["later"]


def test_a_round_trip_that_fails_gives_back_what_was_in_it(engine: Told) -> None:
    told = perform(engine, "lost")
    with pytest.raises(Unavailable):
        told["lost"].outcome()
    assert perform(engine, "a")["a"].outcome() == []
