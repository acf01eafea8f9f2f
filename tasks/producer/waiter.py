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
        """Occupy a place to wait in.

        Raises:
            TooManyWaiters: all are occupied.
        """
        if not self._places.acquire(blocking=False):
            raise TooManyWaiters("MAX_WAITERS callers wait in this process already")
        try:
            yield
        finally:
            self._places.release()

    def replies(self) -> str:
        """The reply list of this thread."""
        if not hasattr(self._thread, "replies"):
            self._thread.replies = self._records.keys.reply(f"{os.getpid()}-{uuid4().hex[:12]}")
        return str(self._thread.replies)

    def wait(self, request_id: str, timeout: float) -> Request:
        """Block until the request has ended or ``timeout`` seconds are over; the record as it is then.

        Raises:
            TooManyWaiters, UnknownRequest, PurgedRequest, Unavailable
        """
        with self.place():
            return self.wait_in_place(request_id, timeout)

    def wait_in_place(self, request_id: str, timeout: float, *, watched: bool = False) -> Request:
        """As :meth:`wait`, in a place that the caller occupies.

        Notifications of requests that this thread waited for before may still arrive; they are skipped.

        Args:
            request_id: the request.
            timeout: seconds.
            watched: whether the request already notifies this thread's reply list, with its record.
        """
        ends = time.monotonic() + timeout
        if not watched and timeout > 0:
            state = self._records.watch(request_id, self.replies() + "+")
            watched = state is not None and not state.terminal
        while watched and (left := ends - time.monotonic()) > 0:
            ended = self._records.read_replies(self.replies(), min(left, RECHECK))
            if record := ended.get(request_id):
                return record
            if (request_id in ended or not ended) and (request := self._records.get(request_id)).state.terminal:
                return request
        return self._records.get(request_id)

    def wait_many(self, ids: Sequence[str], timeout: float) -> None:
        """Block until all of these have ended or ``timeout`` seconds are over; unknown ones count as ended.

        Raises:
            TooManyWaiters, Unavailable
        """
        with self.place():
            self.wait_many_in_place(ids, timeout)

    def wait_many_in_place(self, ids: Sequence[str], timeout: float) -> None:
        """As :meth:`wait_many`, in a place that the caller occupies."""
        ends = time.monotonic() + timeout
        open_ids = self._records.watch_many(ids, self.replies())
        while open_ids and (left := ends - time.monotonic()) > 0:
            ended = self._records.read_replies(self.replies(), min(left, RECHECK), most=len(open_ids))
            open_ids -= ended.keys()
            if not ended:
                open_ids = {
                    request.id for request in self._records.briefs(list(open_ids)) if not request.state.terminal
                }
