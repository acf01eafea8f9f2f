"""Load tests and drills: each runs in a thread, one of a kind at a time, and the page watches it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any


class AlreadyRunning(ValueError):
    """A run of this kind has not ended."""


class BackgroundRun(ABC):
    """One run; its thread starts with it."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.work, name=type(self).__name__, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to end early."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout)

    @abstractmethod
    def work(self) -> None:
        """What the thread does."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """Progress and result as JSON."""


class Runs:
    """The current run of a kind and some before it, each with the API key that started it.

    For stopping and listing, None means all keys.
    """

    def __init__(self, kind: str, kept: int) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._runs: deque[tuple[str, BackgroundRun]] = deque(maxlen=kept)

    def start(self, make: Callable[[], BackgroundRun], key: str = "") -> None:
        """Start the run that ``make`` returns; AlreadyRunning if the one before has not ended."""
        with self._lock:
            if self._runs and self._runs[-1][1].running:
                raise AlreadyRunning(f"a {self._kind} is running: wait for its end or stop it")
            self._runs.append((key, make()))

    def stop(self, key: str | None = None) -> None:
        """Stop the current run, if there is one."""
        with self._lock:
            if self._runs and key in {None, self._runs[-1][0]}:
                self._runs[-1][1].stop()

    def documents(self, key: str | None = None) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return [run.document() for started, run in reversed(self._runs) if key in {None, started}]


def whole_number(given: Mapping[str, Any], name: str, most: int) -> int:
    """The member ``name`` of ``given``; ValueError unless it is a whole number from 1 to ``most``."""
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}")
    return value
