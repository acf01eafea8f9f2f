"""How a worker performs deliveries: begin, decode, infer, commit.

One :class:`Engine` per worker process joins the model, the batcher and the request records. It knows nothing of Celery.
:mod:`tasks.stages` calls its steps for many deliveries at a time; :meth:`Engine.perform` does one by itself.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from tasks.errors import TaskError, TransientFailure
from tasks.requests import Attempt, Outcome, Records, State
from worker_models.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from tasks.ownership import Ownership
    from worker_models.batcher import Batcher, Result, Slot
    from worker_models.model import Model

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """What this worker has done since it started; read by the lease thread."""

    processed: int = 0
    failed: int = 0
    in_flight: int = 0
    service_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery as its task sees it.

    Attributes:
        ids: its requests.
        tag: its tag.
        rank: how urgent it is; less is sooner.
        last_try: whether a transient failure is final.
    """

    ids: Sequence[str]
    tag: str
    rank: int = 0
    last_try: bool = False

    def check(self, failures: Sequence[Exception]) -> None:
        """Call when it has been performed, with what went wrong for now.

        Raises:
            TransientFailure: some requests went back to queued and want another attempt.
        """
        if failures:
            raise TransientFailure(f"{len(failures)} of {len(self.ids)} requests failed for now: {failures[0]}")


@dataclass(slots=True, eq=False)
class Entry:
    """One request of a delivery on its way; ``error`` is what went wrong before the forward pass."""

    attempt: Attempt
    delivery: Delivery
    decode_seconds: float = 0.0
    slot: Slot[Any, Any] | None = None
    error: Exception | None = None

    def result(self) -> Result[Any]:
        """The forward pass's answer, waiting for it; raises what went wrong before or in it."""
        if self.slot is None:
            raise self.error or AssertionError("neither handed in nor failed")
        return self.slot.result()


class Engine:
    """Performs deliveries for one model."""

    def __init__(self, model: Model, batcher: Batcher[Any, Any], records: Records, owner: Ownership) -> None:
        self.model = model
        self.batcher = batcher
        self.records = records
        self.owner = owner
        self.tally = Tally()
        self._solo = threading.Lock()
        self._count = threading.Lock()

    # -- one delivery

    def perform(self, delivery: Delivery) -> list[Exception]:
        """Answer every request of a delivery that still wants one; the errors of those that went back to queued.

        Raises:
            Unavailable: Redis did not answer for too long; every request that could be finished is.
        """
        attempts = self.begin([delivery])[0]
        steps = [partial(self.finish, [self.start(Entry(a, delivery))]) for a in attempts if not a.solo]
        steps += [partial(self.run_alone, Entry(a, delivery)) for a in attempts if a.solo]
        failures: list[Exception] = []
        fault: Exception | None = None
        for step in steps:
            try:
                failures += filter(None, step())
            except (TaskError, RedisError) as error:
                fault = error
        if fault is not None:
            raise fault
        return failures

    def run_alone(self, entry: Entry) -> list[Exception | None]:
        """Run a request that a worker died with: one at a time, and named in Redis while it runs."""
        with self._solo:
            suspect = self.records.keys.suspect(self.owner.boot)
            self.records.client.set(suspect, entry.attempt.id)
            try:
                return self.finish([self.start(entry)])
            finally:
                self.records.client.delete(suspect)

    # -- the steps

    def begin(self, deliveries: Sequence[Delivery]) -> list[list[Attempt]]:
        """What these deliveries may run now, in one round trip."""
        wanted = [(delivery.ids, delivery.tag) for delivery in deliveries]
        return self.records.begin_all(wanted, self.owner.boot, self.model.name)

    def start(self, entry: Entry, then: Callable[[Slot[Any, Any]], object] | None = None) -> Entry:
        """Decode the image and hand it to the batcher; ``then`` is called from its thread with the answer there.

        What goes wrong here is in ``error``, and ``then`` is not called. Whatever is started has to be finished.
        """
        with self._count:
            self.tally.in_flight += 1
        began = time.perf_counter()
        attempt = entry.attempt
        try:
            pixels = self.model.decode(attempt.image)
            entry.decode_seconds = time.perf_counter() - began
            entry.slot = self.batcher.submit(pixels, rank=entry.delivery.rank, solo=attempt.solo, then=then)
        except Exception as error:  # noqa: BLE001 - the edge of a request: whatever goes wrong is its outcome
            entry.decode_seconds = entry.decode_seconds or time.perf_counter() - began
            entry.error = error
        return entry

    def finish(self, entries: Sequence[Entry]) -> list[Exception | None]:
        """Commit these in one round trip, each as soon as it has its answer.

        Returns for each the error for which it has gone back to queued, or None when that was its end.
        """
        boot = self.owner.boot
        concluded = [self._conclude(entry) for entry in entries]
        ends = [(entry.attempt, end) for entry, end in zip(entries, concluded, strict=True) if isinstance(end, Outcome)]
        try:
            self.records.commit_all(boot, ends)
            failures = [None if isinstance(end, Outcome) else end for end in concluded]
            return [
                failure if failure and self.records.requeue(boot, entry.attempt, as_told(failure)) else None
                for entry, failure in zip(entries, failures, strict=True)
            ]
        finally:
            self._learn([end for _, end in ends], len(entries))
            for entry in entries:
                self.owner.ended(entry.delivery.tag)

    def _conclude(self, entry: Entry) -> Outcome | Exception:
        """How the attempt ended, or the error for which it is to be tried again."""
        try:
            return self._success(entry, entry.result())
        except Exception as error:  # noqa: BLE001 - as in start
            if _wants_retry(error) and not entry.delivery.last_try:
                return error
            return _failed(entry, error)

    def _success(self, entry: Entry, result: Result[Any]) -> Outcome:
        """The answer, ready to store: a model's predictions that cannot be written down fail here, as its error."""
        answer = {
            "predictions": self.model.predictions(result.value, entry.attempt.spec["top_k"]),
            "model": self.model.name,
            "weights": self.model.weights,
            "decode": round(entry.decode_seconds, 6),
            "infer": round(result.seconds, 6),
        }
        return Outcome(
            state=State.SUCCEEDED,
            result=json.dumps(answer, separators=(",", ":")),
            decode=entry.decode_seconds,
            infer=result.seconds,
            batch=result.batch_size,
            passes=result.passes,
        )

    def _learn(self, outcomes: Sequence[Outcome], ended: int) -> None:
        """Count, and keep a moving average of what one request costs the inference threads together, in seconds."""
        tally = self.tally
        with self._count:
            tally.in_flight -= ended
            for outcome in outcomes:
                if outcome.state is State.FAILED:
                    tally.failed += 1
                    continue
                tally.processed += 1
                cost = outcome.infer / (outcome.batch * outcome.passes)
                before = tally.service_seconds
                tally.service_seconds = cost if before == 0 else before + 0.1 * (cost - before)


def _wants_retry(error: Exception) -> bool:
    return not isinstance(error, InvalidInput)


def _failed(entry: Entry, error: Exception) -> Outcome:
    if not isinstance(error, ModelError):
        log.error("request %s failed", entry.attempt.id, exc_info=error)
    text = json.dumps(as_told(error))
    return Outcome(state=State.FAILED, result=text, dead_letter=_wants_retry(error), decode=entry.decode_seconds)


def as_told(error: Exception) -> dict[str, Any]:
    """An error as it is stored and shown; what is not the project's own is called internal."""
    known = isinstance(error, ModelError)
    return {
        "code": error.code if isinstance(error, ModelError) else "internal_error",
        "message": str(error) if known else f"{type(error).__name__}: {error}",
        "retryable": not isinstance(error, InvalidInput),
    }
