"""How a worker performs a delivery: begin, decode, infer, commit.

One :class:`Engine` per worker process joins the model, the batcher and the request records. It knows nothing of Celery:
the task in :mod:`tasks.inference` calls it and turns what is left into a retry.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.errors import TransientFailure
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
        tag: its tag.
        rank: how urgent it is; less is sooner.
        last_try: whether a transient failure is final.
    """

    tag: str
    rank: int = 0
    last_try: bool = False


@dataclass(frozen=True, slots=True)
class _Pending:
    attempt: Attempt
    decode_seconds: float
    slot: Slot[Any, Any] | Exception

    def result(self) -> Result[Any]:
        """The forward pass's answer; raises what went wrong before or in it."""
        if isinstance(self.slot, Exception):
            raise self.slot
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

    def perform(self, ids: Sequence[str], delivery: Delivery) -> None:
        """Answer every request of a delivery that still wants one.

        Raises:
            TransientFailure: some requests went back to queued and want another attempt.
        """
        attempts = self.records.begin(ids, self.owner.boot, delivery.tag, self.model.name)
        with self._in_flight(len(attempts)):
            together = [attempt for attempt in attempts if not attempt.solo]
            failures = list(self._run_together(together, delivery))
            for attempt in attempts:
                if attempt.solo:
                    failures += self._run_alone(attempt, delivery)
        if failures:
            raise TransientFailure(f"{len(failures)} of {len(ids)} requests failed for now: {failures[0]}")

    def _run_together(self, attempts: Sequence[Attempt], delivery: Delivery) -> Iterator[Exception]:
        pending = [self._start(attempt, delivery.rank, solo=False) for attempt in attempts]
        for entry in pending:
            yield from self._finish(entry, delivery)

    def _run_alone(self, attempt: Attempt, delivery: Delivery) -> list[Exception]:
        """Run a request that a worker died with: one at a time, and named in Redis while it runs."""
        with self._solo:
            suspect = self.records.keys.suspect(self.owner.boot)
            self.records.client.set(suspect, attempt.id)
            try:
                return list(self._finish(self._start(attempt, delivery.rank, solo=True), delivery))
            finally:
                self.records.client.delete(suspect)

    def _start(self, attempt: Attempt, rank: int, *, solo: bool) -> _Pending:
        began = time.perf_counter()
        try:
            pixels = self.model.decode(attempt.image)
            decoded = time.perf_counter() - began
            return _Pending(attempt, decoded, self.batcher.submit(pixels, rank=rank, solo=solo))
        except Exception as error:  # noqa: BLE001 - the edge of a request: whatever goes wrong is its outcome
            return _Pending(attempt, time.perf_counter() - began, error)

    def _finish(self, entry: _Pending, delivery: Delivery) -> Iterator[Exception]:
        """Commit one request; yields the error when it should be tried again."""
        yield from self._commit(entry, last_try=delivery.last_try)
        self.owner.ended(delivery.tag)

    def _commit(self, entry: _Pending, *, last_try: bool) -> Iterator[Exception]:
        try:
            result = entry.result()
            outcome = self._success(entry, result)
        except Exception as error:  # noqa: BLE001 - as in _start
            if self._wants_retry(error) and not last_try:
                if self.records.requeue(self.owner.boot, entry.attempt, failure(error)):
                    yield error
            else:
                self._commit_failure(entry, error)
            return
        self.records.commit(self.owner.boot, entry.attempt, outcome)
        self._learn(result)

    @staticmethod
    def _wants_retry(error: Exception) -> bool:
        return not isinstance(error, InvalidInput)

    def _commit_failure(self, entry: _Pending, error: Exception) -> None:
        if not isinstance(error, ModelError):
            log.error("request %s failed", entry.attempt.id, exc_info=error)
        dead = self._wants_retry(error)
        text = json.dumps(failure(error))
        outcome = Outcome(state=State.FAILED, result=text, dead_letter=dead, decode=entry.decode_seconds)
        self.records.commit(self.owner.boot, entry.attempt, outcome)
        self.tally.failed += 1

    def _success(self, entry: _Pending, result: Result[Any]) -> Outcome:
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
        )

    def _learn(self, result: Result[Any]) -> None:
        """Keep a moving average of what one request costs the inference thread, in seconds."""
        cost = result.seconds / result.batch_size
        with self._count:
            self.tally.processed += 1
            before = self.tally.service_seconds
            self.tally.service_seconds = cost if before == 0 else before + 0.1 * (cost - before)

    @contextmanager
    def _in_flight(self, number: int) -> Iterator[None]:
        with self._count:
            self.tally.in_flight += number
        try:
            yield
        finally:
            with self._count:
                self.tally.in_flight -= number


def failure(error: Exception) -> dict[str, Any]:
    """An error as it is stored and shown; what is not the project's own is called internal."""
    known = isinstance(error, ModelError)
    return {
        "code": error.code if isinstance(error, ModelError) else "internal_error",
        "message": str(error) if known else f"{type(error).__name__}: {error}",
        "retryable": not isinstance(error, InvalidInput),
    }
