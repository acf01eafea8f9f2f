"""How a process that waits hears of the end of a request: one reply list, one listener thread, many waiting threads.

The script that ends a request pushes its id to the reply lists that asked; polling would cost every waiter a query
after the other. When the listener has lost Redis for a moment it wakes everybody to look for themselves, so a lost
push delays an answer and never loses it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from redis.exceptions import RedisError

from settings import Settings
from tasks import connections
from tasks.keys import Keys

log = logging.getLogger(__name__)

#: Seconds one blocking read lasts; also how long closing may take.
BLOCK = 1.0

#: Requests handed in by callers who said they would wait and did not come: the oldest are forgotten beyond this.
MOST_PREPARED = 1000


class Replies:
    """The listener of one process. Starts its thread at the first wait, so a forked server can build it early."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.key = Keys(settings.key_prefix).reply(f"{os.getpid()}-{uuid4().hex[:12]}")
        self._waiting: dict[str, list[threading.Event]] = defaultdict(list)
        self._prepared: OrderedDict[str, threading.Event] = OrderedDict()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def prepare(self, request_id: str) -> None:
        """Listen for a request that is about to be handed in with this reply list, so that its end cannot be missed."""
        self._start()
        event = threading.Event()
        with self._lock:
            self._waiting[request_id].append(event)
            self._prepared[request_id] = event
            while len(self._prepared) > MOST_PREPARED:
                self._remove(*self._prepared.popitem(last=False))

    def forget(self, request_id: str) -> None:
        """The prepared request was not handed in after all."""
        with self._lock:
            if event := self._prepared.pop(request_id, None):
                self._remove(request_id, event)

    @contextmanager
    def expected(self, request_id: str) -> Iterator[tuple[threading.Event, bool]]:
        """An event that is set when ``request_id`` may have ended, and whether it was prepared.

        Check the record, then clear the event and wait again. One that was not prepared has yet to be watched.
        """
        self._start()
        with self._lock:
            event = self._prepared.pop(request_id, None)
            prepared = event is not None
            if event is None:
                event = threading.Event()
                self._waiting[request_id].append(event)
        try:
            yield event, prepared
        finally:
            with self._lock:
                self._remove(request_id, event)

    def _remove(self, request_id: str, event: threading.Event) -> None:
        events = self._waiting[request_id]
        events.remove(event)
        if not events:
            del self._waiting[request_id]

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * BLOCK)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="replies", daemon=True)
                self._thread.start()

    def _listen(self) -> None:
        client = connections.blocking(self._settings.redis_url, BLOCK)
        while not self._stop.is_set():
            try:
                heard = client.blpop([self.key], timeout=BLOCK)
            except (RedisError, OSError) as error:
                log.warning("reply list lost: %s", error)
                self._wake_all()
                self._stop.wait(0.2)
                continue
            if heard is not None:
                self._wake(heard[1].decode())

    def _wake(self, request_id: str) -> None:
        with self._lock:
            for event in self._waiting.get(request_id, ()):
                event.set()

    def _wake_all(self) -> None:
        with self._lock:
            for events in self._waiting.values():
                for event in events:
                    event.set()
