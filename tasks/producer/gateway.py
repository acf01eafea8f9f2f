"""The API's way to the queue: one :class:`Gateway` per process, shared by its threads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress

from common.settings import Settings
from tasks.errors import BrokerUnavailable, TooManyWaiters
from tasks.producer.admission import Admission, Submission, uuid7
from tasks.producer.publisher import Accepted, Publisher, Trace
from tasks.producer.waiter import Waiter
from tasks.protocol import connections
from tasks.protocol.records import Records
from tasks.protocol.requests import Request

__all__ = ["Accepted", "Gateway", "Submission", "uuid7"]


class Gateway:
    """Joins admission, publisher, waiter and records over one client; submits and waits in one call."""

    def __init__(self, settings: Settings, trace: Trace = nullcontext) -> None:
        self._client = connections.prompt(settings.redis_url)
        self.records = Records(self._client, settings)
        admission = Admission(settings, self.records)
        self.publisher = Publisher(settings, admission, self.records, trace)
        self.waiter = Waiter(self.records, settings.max_waiters)
        self.refusal, self.image_bytes = admission.refusal, admission.image_bytes
        self.known, self.count_refused = admission.known, admission.count_refused
        self.submit, self.submit_many = self.publisher.submit, self.publisher.submit_many
        self.wait, self.wait_many = self.waiter.wait, self.waiter.wait_many
        self.get, self.cancel = self.records.get, self.records.cancel

    def submit_and_wait(self, submission: Submission, timeout: float) -> tuple[Accepted, Request | None]:
        """Accept one request and wait up to ``timeout`` seconds for its end: the record as it is then.

        The record is None if the accepted request could not be waited for: no place was free, or Redis was lost.
        Raises what :meth:`tasks.producer.publisher.Publisher.submit` raises.
        """
        if timeout <= 0:
            return self.submit(submission), None
        with suppress(TooManyWaiters), self.waiter.place():
            accepted = self._submit_watched(submission)
            with suppress(BrokerUnavailable):
                return accepted, self.wait(accepted.id, timeout, watched=not accepted.replayed)
            return accepted, None
        return self.submit(submission), None

    def submit_all_and_wait(self, items: Sequence[Submission], timeout: float) -> list[Request]:
        """Accept all of these or none, and wait up to ``timeout`` seconds for their end.

        Raises TooManyWaiters, and what :meth:`tasks.producer.publisher.Publisher.submit_all` raises.
        """
        with self.waiter.place():
            if len(items) == 1:
                accepted = self._submit_watched(items[0])
                return [self.wait(accepted.id, timeout, watched=not accepted.replayed)]
            ids = self.publisher.submit_all(items)
            self.wait_many(ids, timeout)
        return self.records.get_many(ids)

    def _submit_watched(self, submission: Submission) -> Accepted:
        return self.submit(submission, self.waiter.replies + "+")

    def close(self) -> None:
        """Write the last statistics and close the connections."""
        self.records.statistics.close(self._client, self.records.keys.prefix)
        self.records.pinned.close()
        self._client.close()
