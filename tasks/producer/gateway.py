"""What the API calls: one :class:`Gateway` per process, shared by its threads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from common.settings import Settings
from tasks.errors import TooManyWaiters, Unavailable
from tasks.producer.admission import Admission, Submission, uuid7
from tasks.producer.publisher import Accepted, Publisher
from tasks.producer.waiter import Waiter
from tasks.protocol import connections
from tasks.protocol.records import Records
from tasks.protocol.requests import Request

__all__ = ["Accepted", "Gateway", "Submission", "uuid7"]


class Gateway:
    """Joins admission, publisher, waiter and records over one client, and waits for what it has just published."""

    def __init__(self, settings: Settings, publisher: type[Publisher] = Publisher) -> None:
        self._client = connections.prompt(settings.redis_url)
        self.records = Records(self._client, settings)
        admission = Admission(settings, self.records)
        self.refusal, self.image_bytes = admission.refusal, admission.image_bytes
        self._publisher = publisher(settings, admission, self.records)
        self.submit, self.submit_many = self._publisher.submit, self._publisher.submit_many
        self.waiter = Waiter(self.records, settings.max_waiters)
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
            accepted = self.submit(submission, self.waiter.replies() + "+")
            with suppress(Unavailable):
                return accepted, self.waiter.wait_in_place(accepted.id, timeout, watched=not accepted.replayed)
            return accepted, None
        return self.submit(submission), None

    def submit_all_and_wait(self, items: Sequence[Submission], timeout: float) -> list[Request]:
        """Accept all of these or none, and wait up to ``timeout`` seconds for their end.

        Raises TooManyWaiters, and what :meth:`tasks.producer.publisher.Publisher.submit_all` raises.
        """
        with self.waiter.place():
            if len(items) == 1:
                accepted = self.submit(items[0], self.waiter.replies() + "+")
                return [self.waiter.wait_in_place(accepted.id, timeout, watched=not accepted.replayed)]
            ids = self._publisher.submit_all(items)
            self.waiter.wait_many_in_place(ids, timeout)
        return self.records.get_many(ids)

    def close(self) -> None:
        """Close the connections."""
        self.records.pinned.close()
        self._client.close()
