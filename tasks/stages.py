"""Deliveries performed many at a time, a stage after the other, by few threads.

::

    put -> [starter: begin] -> [decoders] -> [batcher: infer] -> [finisher: commit] -> told

A thread for each delivery would wait for Redis twice and for the forward pass once, and every wait hands Python's
interpreter to another thread and back: that costs more than the work. Here whatever has come together at a stage goes
through it together: all that wait are begun in one round trip, and all of a forward pass are committed in one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.engine import Entry
from tasks.lease import end_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.engine import Delivery, Engine
    from tasks.requests import Attempt
    from worker_models.batcher import Slot

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Work:
    """A delivery on its way.

    Attributes:
        delivery: what it is.
        told: called once from the finisher when nothing of it is left to do here, with this.
        left: how many of its requests have not ended.
        failures: the errors of requests that went back to queued.
        fault: what kept the delivery from being performed; it is nobody's outcome.
    """

    delivery: Delivery
    told: Callable[[Work], object]
    left: int = 0
    failures: list[Exception] = field(default_factory=list)
    fault: Exception | None = None

    def outcome(self) -> list[Exception]:
        """The failures; raises the fault."""
        if self.fault is not None:
            raise self.fault
        return self.failures


@dataclass(slots=True, eq=False)
class _Step:
    """One request, or with ``entry`` None a whole delivery, on its way to the finisher."""

    work: Work
    entry: Entry | None = None
    ended: bool = False


class Stages:
    """Performs deliveries with one engine from threads of its own.

    Args:
        engine: the steps.
        decoders: how many images are decoded at a time.
    """

    def __init__(self, engine: Engine, decoders: int) -> None:
        self._engine = engine
        self._new: SimpleQueue[Work | None] = SimpleQueue()
        self._done: SimpleQueue[_Step | None] = SimpleQueue()
        self._encoded: SimpleQueue[_Step | None] = SimpleQueue()
        self._alone = ThreadPoolExecutor(1, thread_name_prefix="alone")
        self._open = 0
        self._changed = threading.Condition()
        self._starter = _thread("starter", self._new, self._begin)
        self._finisher = _thread("finisher", self._done, self._end)
        for number in range(decoders):
            _thread(f"decoder-{number}", self._encoded, self._decode, most=1)

    def put(self, work: Work) -> None:
        """Perform a delivery; returns at once."""
        self._new.put(work)

    def close(self) -> None:
        """Wait until all that was put has been told of; then nothing may be put any more."""
        self._new.put(None)
        self._starter.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._open)
        self._done.put(None)
        self._finisher.join()

    # -- the starter

    def _begin(self, works: list[Work]) -> None:
        with self._changed:
            self._open += len(works)
        attempts = self._begun(works)
        steps = []
        for work, allowed in zip(works, attempts, strict=True):
            work.left = len(allowed)
            steps += [_Step(work, Entry(attempt, work.delivery)) for attempt in allowed]
            if not allowed:
                self._done.put(_Step(work))
        self._start(steps)

    def _begun(self, works: Sequence[Work]) -> list[list[Attempt]]:
        """What each of these may run; one that cannot be begun must not keep the others from it."""
        try:
            return self._engine.begin([work.delivery for work in works])
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: it is given back, whatever it was
            if len(works) == 1:
                works[0].fault = error
                return [[]]
        return [attempts for work in works for attempts in self._begun([work])]

    def _start(self, steps: Sequence[_Step]) -> None:
        for step in steps:
            if step.entry is not None and step.entry.attempt.solo:
                self._alone.submit(self._run_alone, step)
            else:
                self._encoded.put(step)

    # -- the decoders

    def _decode(self, steps: list[_Step]) -> None:
        for step in steps:
            assert step.entry is not None  # noqa: S101 - only such steps have something to decode
            entry = self._engine.start(step.entry, partial(self._inferred, step))
            if entry.error is not None:
                self._done.put(step)

    def _inferred(self, step: _Step, slot: Slot[Any, Any]) -> None:
        """The batcher may be done with it before the engine has written down the slot."""
        assert step.entry is not None  # noqa: S101 - as above
        step.entry.slot = slot
        self._done.put(step)

    # -- by itself

    def _run_alone(self, step: _Step) -> None:
        assert step.entry is not None  # noqa: S101 - as above
        try:
            step.work.failures += filter(None, self._engine.run_alone(step.entry))
        except Exception as error:  # noqa: BLE001 - as in _begun
            step.work.fault = error
        step.ended = True
        self._done.put(step)

    # -- the finisher

    def _end(self, steps: list[_Step]) -> None:
        self._commit([step for step in steps if step.entry is not None and not step.ended])
        for step in steps:
            work = step.work
            work.left -= step.entry is not None
            if not work.left:
                work.told(work)
                with self._changed:
                    self._open -= 1
                    self._changed.notify_all()

    def _commit(self, steps: Sequence[_Step]) -> None:
        entries = [step.entry for step in steps if step.entry is not None]
        try:
            failures = self._engine.finish(entries)
        except Exception as error:  # noqa: BLE001 - as in _begun; what has been committed all the same is not run again
            for step in steps:
                step.work.fault = error
            return
        for step, failure in zip(steps, failures, strict=True):
            if failure is not None:
                step.work.failures.append(failure)


def _thread(
    name: str, queue: SimpleQueue[T | None], act: Callable[[list[T]], None], most: int | None = None
) -> threading.Thread:
    thread = threading.Thread(target=_serve, args=(queue, act, most), name=name, daemon=True)
    thread.start()
    return thread


def _serve(queue: SimpleQueue[T | None], act: Callable[[list[T]], None], most: int | None) -> None:
    """Act on everything in the queue, at most so many at a time, until a None in it."""
    try:
        while None not in (found := _drained(queue, most)):
            act(found)  # type: ignore[arg-type]
        act([item for item in found if item is not None])
    except Exception:
        # A worker that takes deliveries and does not perform them must not look as if it did.
        log.critical("a stage of this worker failed: it exits", exc_info=True)
        end_process()


def _drained(queue: SimpleQueue[T], most: int | None) -> list[T]:
    found = [queue.get()]
    with suppress(Empty):
        while most is None or len(found) < most:
            found.append(queue.get_nowait())
    return found
