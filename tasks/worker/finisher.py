"""How requests leave the pipeline: committed, to be retried, returned to their lane, or paused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.protocol import envelope
from tasks.protocol.requests import Attempt, AttemptEnd, State
from tasks.worker.outcomes import failed, of_model, succeeded
from tasks.worker.stage import ModelTimes
from worker_models.errors import InvalidInput

if TYPE_CHECKING:
    from tasks.protocol.records import Records
    from tasks.worker.delivery import Delivery, Entry
    from tasks.worker.ownership import Ownership
    from worker_models.model import Model


@dataclass(slots=True)
class Tally:
    """What this worker has done since it started; ``service_seconds`` is a moving average of the cost of a request."""

    processed: int = 0
    failed: int = 0
    service_seconds: float = 0.0

    def count(self, outcome: AttemptEnd) -> None:
        """Count the end of a request."""
        if outcome.state is State.FAILED:
            self.failed += 1
            return
        self.processed += 1
        cost = outcome.infer / (outcome.batch * outcome.passes)
        before = self.service_seconds
        self.service_seconds = cost if before == 0 else before + 0.1 * (cost - before)


class Finisher:
    """Writes to Redis how requests end, those that have ended together in one round trip."""

    def __init__(self, model: Model, records: Records, owner: Ownership) -> None:
        self._model = model
        self._records = records
        self._owner = owner
        self.tally = Tally()
        self.predicting = ModelTimes()

    def commit(self, entries: Sequence[Entry]) -> None:
        """Commit these, except those to be retried, which their delivery keeps."""
        ends: list[tuple[Attempt, AttemptEnd]] = []
        for entry in entries:
            if (attempt := entry.attempt) is None:
                continue
            seconds = entry.seconds / (entry.size * entry.passes)
            self._owner.serve(entry.delivery.tag, entry.decode_seconds + seconds)
            end = self._conclude(entry, attempt)
            if isinstance(end, AttemptEnd):
                ends.append((attempt, end))
            else:
                entry.delivery.failures.append((attempt, end))
        try:
            self._records.commit_all(self._owner.boot, ends)
        finally:
            for _, outcome in ends:
                self.tally.count(outcome)

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Return requests that have not run to their lanes, one message per delivery."""
        returned: dict[Delivery, list[str]] = defaultdict(list)
        for entry in entries:
            returned[entry.delivery].append(entry.id)
        for delivery, ids in returned.items():
            message = envelope.seal(delivery.lane, ids, retries=delivery.retries)
            self._records.give_back(self._owner.boot, delivery.tag, delivery.lane, message, ids)

    def pause(self, entries: Sequence[Entry]) -> None:
        """Queue requests again that keep their place in this worker."""
        for entry in entries:
            if not entry.paused:
                delivery = entry.delivery
                self._records.give_back(self._owner.boot, delivery.tag, delivery.lane, "", [entry.id])

    def _conclude(self, entry: Entry, attempt: Attempt) -> AttemptEnd | Exception:
        """How the attempt ended, or the error for which it is retried."""
        try:
            of_model(entry.check)
            with self.predicting:
                predictions = of_model(self._model.predictions, entry.value, attempt.spec["top_k"])
            return succeeded(self._model, predictions, entry.decode_seconds, entry)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's
            if not isinstance(error, InvalidInput) and not entry.delivery.last_try:
                return error
            return failed(attempt, error, entry.decode_seconds)
