"""The memory that the decoders of one process share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """Admits decoders in their order while the memory they need fits, so that a large one is never starved."""

    def __init__(self) -> None:
        self.used = 0
        self._turn = threading.Lock()
        self._freed = threading.Condition()

    @contextmanager
    def hold(self, needed: int, total: int) -> Iterator[None]:
        """Wait until ``needed`` bytes of ``total`` are free, and keep them for one ``with`` block."""
        with self._turn, self._freed:
            self._freed.wait_for(lambda: not self.used or self.used + needed <= total)
            self.used += needed
        try:
            yield
        finally:
            with self._freed:
                self.used -= needed
                self._freed.notify_all()
