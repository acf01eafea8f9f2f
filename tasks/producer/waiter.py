"""Waiting: a thread blocks on its reply list until a request has ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

from tasks.errors import TooManyWaiters
from tasks.protocol.records import Records
from tasks.protocol.requests import Request

#: Seconds between looks at the record while waiting, should a notification get lost.
RECHECK = 5.0


class Waiter:
    """Waits for requests, in at most ``places`` threads of this process at a time."""

    def __init__(self, records: Records, places: int) -> None:
        self._records = records
        self._places = threading.BoundedSemaphore(places)
        self._thread = threading.local()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Occupy one of the places, unless this thread has one; raises TooManyWaiters when all are occupied."""
        if getattr(self._thread, "placed", False):
            yield
            return
        if not self._places.acquire(blocking=False):
            raise TooManyWaiters("MAX_WAITERS callers wait in this process already")
        self._thread.placed = True
        try:
            yield
        finally:
            self._thread.placed = False
            self._places.release()

    @property
    def replies(self) -> str:
        """The reply list of this thread."""
        if not hasattr(self._thread, "replies"):
            self._thread.replies = self._records.keys.reply(f"{os.getpid()}-{uuid4().hex[:12]}")
        return str(self._thread.replies)

    def wait(self, request_id: str, timeout: float, *, watched: bool = False) -> Request:
        """Block until the request has ended or ``timeout`` seconds are over; the record as it is then.

        ``watched`` says that the request notifies this thread already, with its record. Raises TooManyWaiters,
        UnknownRequest, PurgedRequest or BrokerUnavailable.
        """
        ends = time.monotonic() + timeout
        with self.place():
            if not watched and timeout > 0:
                state = self._records.watch(request_id, self.replies + "+")
                watched = state is not None and not state.terminal
            while watched and (left := ends - time.monotonic()) > 0:
                # Requests that this thread waited for before may notify it still: they are skipped.
                ended = self._records.read_replies(self.replies, min(left, RECHECK))
                if record := ended.get(request_id):
                    return record
                if (request_id in ended or not ended) and (request := self._records.get(request_id)).state.terminal:
                    return request
            return self._records.get(request_id)

    def wait_many(self, ids: Sequence[str], timeout: float) -> None:
        """Block until all of these have ended or ``timeout`` seconds are over; unknown ones count as ended.

        Raises TooManyWaiters or BrokerUnavailable.
        """
        ends = time.monotonic() + timeout
        with self.place():
            waiting = self._records.watch_many(ids, self.replies)
            while waiting and (left := ends - time.monotonic()) > 0:
                ended = self._records.read_replies(self.replies, min(left, RECHECK), most=len(waiting))
                waiting -= ended.keys()
                if not ended:
                    left_open = self._records.briefs(list(waiting))
                    waiting = {request.id for request in left_open if not request.state.terminal}
