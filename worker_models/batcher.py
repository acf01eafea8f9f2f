"""The adaptive batcher: items in, one inference thread, batches out. It never waits for a batch to fill.

The inference thread takes what waits, the most urgent first and up to ``max_batch``, the moment it is free. On an idle
worker a batch is one item and waits for nothing; under load the items that arrive during one forward pass are the next
batch. A batch that raises is split in halves until the item to blame is alone: only its caller sees the error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from worker_models.errors import BatcherClosed, InferenceFailed

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Result(Generic[R]):
    """One item's answer, the size of the forward pass it came from and that pass's wall time in seconds."""

    value: R
    batch_size: int
    seconds: float


class Slot(Generic[T, R]):
    """One item on its way through; ``done`` is held until the item has its answer or its error."""

    __slots__ = ("answer", "done", "error", "item", "solo", "then")

    def __init__(self, item: T, solo: bool, then: Callable[[Slot[T, R]], object] | None) -> None:
        self.item = item
        self.solo = solo
        self.then = then
        self.answer: Result[R] | None = None
        self.error: Exception | None = None
        # A bare lock costs a tenth of an Event or a Future, and there is one for every request.
        self.done = threading.Lock()
        self.done.acquire()

    def result(self) -> Result[R]:
        """The item's answer; blocks until it is there, and may be called once.

        Raises:
            BatcherClosed: the inference thread ended before the item had its turn.
            Exception: whatever ``infer`` raises for this item alone.
        """
        self.done.acquire()
        if self.error is not None:
            raise self.error
        if self.answer is None:
            raise BatcherClosed("the inference thread ended before this item had its turn")
        return self.answer

    def release(self) -> None:
        """The item has its answer, its error, or will have neither."""
        self.done.release()
        if self.then is not None:
            self.then(self)


class Batcher(Generic[T, R]):
    """Runs ``infer`` on batches from one thread of its own, which starts here.

    Args:
        infer: maps a sequence of items to as many results, in order.
        max_batch: the most items of one forward pass.
        capacity: the most items that wait; :meth:`submit` blocks while it is reached.
    """

    def __init__(self, infer: Callable[[Sequence[T]], Sequence[R]], max_batch: int, capacity: int) -> None:
        if max_batch < 1 or capacity < 1:
            raise ValueError("max_batch and capacity must be at least 1")
        self._infer = infer
        self._max_batch = max_batch
        self._capacity = capacity
        self._waiting: list[tuple[int, int, Slot[T, R]]] = []
        self._order = count()
        self._closed = False
        lock = threading.Lock()
        self._filled = threading.Condition(lock)
        self._emptied = threading.Condition(lock)
        self.busy_since: float | None = None
        """``time.monotonic()`` at the start of the forward pass that runs now; None between passes."""
        self._thread = threading.Thread(target=self._serve, name="inference", daemon=True)
        self._thread.start()

    def run(self, item: T, *, rank: int = 0, solo: bool = False) -> Result[R]:
        """Infer one item; blocks until it is done. A ``solo`` item shares its forward pass with no other.

        Raises:
            BatcherClosed: closed before the item was accepted.
            Exception: whatever ``infer`` raises for this item alone.
        """
        return self.submit(item, rank=rank, solo=solo).result()

    def submit(
        self, item: T, *, rank: int = 0, solo: bool = False, then: Callable[[Slot[T, R]], object] | None = None
    ) -> Slot[T, R]:
        """Hand one item in and go on; blocks only while ``capacity`` items wait. Read it with ``.result()``.

        Items of a lower ``rank`` go first, those of the same in the order they came. ``then`` is called with the slot
        when its result is there, from the inference thread, so it must be quick and must not raise.

        Raises:
            BatcherClosed: closed before the item was accepted.
        """
        slot: Slot[T, R] = Slot(item, solo, then)
        self._accept(slot, rank)
        return slot

    def close(self, timeout: float | None = None) -> None:
        """Accept nothing more, finish what was accepted, stop; wait for that at most ``timeout`` seconds."""
        with self._filled:
            self._closed = True
            self._filled.notify()
            self._emptied.notify_all()
        self._thread.join(timeout)

    def _accept(self, slot: Slot[T, R], rank: int) -> None:
        with self._filled:
            while len(self._waiting) >= self._capacity and not self._closed:
                self._emptied.wait()
            if self._closed:
                raise BatcherClosed("this worker is stopping and accepts nothing more")
            heappush(self._waiting, (rank, next(self._order), slot))
            self._filled.notify()

    def _serve(self) -> None:
        batch: list[Slot[T, R]] = []
        try:
            while batch := self._take():
                self._settle(batch)
        finally:
            self._abandon(batch)

    def _take(self) -> list[Slot[T, R]]:
        """Everything that may share the next forward pass; empty when closed and nothing is left."""
        with self._filled:
            while not self._waiting:
                if self._closed:
                    return []
                self._filled.wait()
            batch = [heappop(self._waiting)[-1]]
            while self._joins(batch):
                batch.append(heappop(self._waiting)[-1])
            self._emptied.notify(len(batch))
            return batch

    def _joins(self, batch: list[Slot[T, R]]) -> bool:
        room = len(batch) < self._max_batch and not batch[0].solo
        return room and bool(self._waiting) and not self._waiting[0][-1].solo

    def _settle(self, batch: list[Slot[T, R]]) -> None:
        """Give every slot of ``batch`` its result or its own error."""
        self.busy_since = started = time.monotonic()
        try:
            values = self._values(batch)
        except Exception as error:  # noqa: BLE001 - this is the inference thread's outermost loop; the error goes to its caller
            self._blame(batch, error)
            return
        finally:
            self.busy_since = None
        seconds = time.monotonic() - started
        for slot, value in zip(batch, values, strict=True):
            slot.answer = Result(value, len(batch), seconds)
            slot.release()

    def _values(self, batch: list[Slot[T, R]]) -> Sequence[R]:
        values = self._infer([slot.item for slot in batch])
        if len(values) != len(batch):
            raise InferenceFailed(f"the model answered {len(values)} results for {len(batch)} items")
        return values

    def _blame(self, batch: list[Slot[T, R]], error: Exception) -> None:
        if len(batch) == 1:
            batch[0].error = error
            batch[0].release()
            return
        middle = len(batch) // 2
        self._settle(batch[:middle])
        self._settle(batch[middle:])

    def _abandon(self, batch: list[Slot[T, R]]) -> None:
        """When the thread ends for whatever reason, nobody is left waiting."""
        with self._filled:
            self._closed = True
            waiting = [slot for _, _, slot in self._waiting]
            left = [slot for slot in (*batch, *waiting) if slot.done.locked()]
            self._waiting.clear()
            self._emptied.notify_all()
        for slot in left:
            slot.release()
