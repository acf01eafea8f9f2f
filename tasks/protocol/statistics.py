"""Statistics that scripts return to their caller: added up here, and written once a second.

A worker's lease thread writes them, in the API a timer. A killed process loses the last second of them, never anything
of the ledger: scripts move that with the state.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from itertools import chain

from redis.exceptions import RedisError

from tasks.protocol import scripts
from tasks.protocol.connections import Client


class Statistics:
    """Histograms and counts per minute that are not written yet. Thread-safe."""

    def __init__(self) -> None:
        self._lines: Counter[bytes] = Counter()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def add(self, text: bytes) -> None:
        """Add what a script has returned: lines of amount, hash and field."""
        with self._lock:
            self._lines.update(text.splitlines())

    def flush_later(self, client: Client, prefix: str) -> None:
        """Write them in a second, if Redis answers then."""
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(1.0, self.close, (client, prefix))
                self._timer.daemon = True
                self._timer.start()

    def close(self, client: Client, prefix: str) -> None:
        """Write now what :meth:`flush_later` would."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            with suppress(RedisError):
                self.flush(client, prefix)

    def flush(self, client: Client, prefix: str) -> None:
        """Write them; they are kept when that fails, though it may have been done."""
        with self._lock:
            lines, self._lines = self._lines, Counter()
        sums: Counter[tuple[bytes, bytes]] = Counter()
        for line, times in lines.items():
            amount, *place = line.split(b" ", 2)
            sums[place[0], place[1]] += times * int(amount)
        if not sums:
            return
        try:
            scripts.run(client, "count", (), [prefix, *chain(*((by, *place) for place, by in sums.items()))])
        except Exception:
            with self._lock:
                self._lines += lines
            raise
