"""Parts of the pipeline: queues with their threads, and the times of the model's calls."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from tasks.worker.exits import end_process

log = logging.getLogger(__name__)

T = TypeVar("T")


class Stage(Generic[T]):
    """A queue and the threads that act on it; each acts on all that has arrived, on ``most`` items at most."""

    def __init__(self, name: str, act: Callable[[list[T]], None], threads: int = 1, most: int | None = None) -> None:
        self._name = name
        self._act = act
        self._most = most
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        """None is its end."""
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, item: T) -> None:
        """Queue an item; returns at once."""
        self._queue.put(item)

    def drain(self) -> list[T]:
        """Take out what no thread has begun with."""
        items: list[T | None] = []
        with suppress(Empty):
            while True:
                items.append(self._queue.get_nowait())
        if None in items:
            self._queue.put(None)
        return [item for item in items if item is not None]

    def close(self) -> None:
        """Wait until everything has been acted on; put nothing afterwards. For a stage of one thread."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        try:
            while None not in (items := self._arrived()):
                self._act(items)  # type: ignore[arg-type]
            self._act([item for item in items if item is not None])
        except BaseException:  # noqa: BLE001 - whatever it was, the thread is lost
            give_up(f"the {self._name}")

    def _arrived(self) -> list[T | None]:
        items = [self._queue.get()]
        with suppress(Empty):
            while self._most is None or len(items) < self._most:
                items.append(self._queue.get_nowait())
        return items


class ModelTimes:
    """A context for calls of the model: how many threads are in one, and since when."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def __enter__(self) -> None:
        self._since[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        del self._since[threading.get_ident()]

    def __len__(self) -> int:
        return len(self._since)

    @property
    def since(self) -> list[float]:
        """``time.monotonic()`` at the start of each call."""
        return list(self._since.values())


def give_up(what: str) -> None:
    """End the process: a worker that takes deliveries must perform them."""
    log.critical("%s failed: this worker exits, its requests are rescued", what, exc_info=sys.exc_info())
    end_process()
