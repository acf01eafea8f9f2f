"""The adaptive batcher: items in, a few inference threads, batches out. It never waits for a batch to fill.

An inference thread takes what waits, the most urgent first and up to ``max_batch``, the moment it is free. On an idle
worker a batch is one item and waits for nothing; under load the items that arrive during one forward pass are the next
batch. Inference threads wait neither for one another, so none stands idle while there is work, nor does what is urgent
wait for the slowest of them. A batch that raises is split in halves until the item to blame is alone: only its caller
sees the error.
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
    """One item's answer.

    Attributes:
        value: what ``infer`` returned for it.
        batch_size: the items of its forward pass.
        seconds: that pass's wall time.
        passes: how many passes ran side by side when that one began, itself included.
    """

    value: R
    batch_size: int
    seconds: float
    passes: int = 1


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
            BatcherClosed: an inference thread ended before the item had its turn.
            Exception: whatever ``infer`` raises for this item alone.
        """
        self.done.acquire()
        if self.error is not None:
            raise self.error
        if self.answer is None:
            raise BatcherClosed("an inference thread ended before this item had its turn")
        return self.answer

    def release(self) -> None:
        """The item has its answer, its error, or will have neither."""
        self.done.release()
        if self.then is not None:
            self.then(self)


class Batcher(Generic[T, R]):
    """Runs ``infer`` on batches from threads of its own, which start here.

    Args:
        infer: maps a sequence of items to as many results, in order.
        max_batch: the most items of one forward pass.
        capacity: the most items that wait; :meth:`submit` blocks while it is reached.
        passes: how many forward passes may run side by side; ``infer`` is called from as many threads.
    """

    def __init__(
        self, infer: Callable[[Sequence[T]], Sequence[R]], max_batch: int, capacity: int, passes: int = 1
    ) -> None:
        if min(max_batch, capacity, passes) < 1:
            raise ValueError("max_batch, capacity and passes must be at least 1")
        self._infer = infer
        self._max_batch = max_batch
        self._capacity = capacity
        self._passes = passes
        self._waiting: list[tuple[int, int, Slot[T, R]]] = []
        self._order = count()
        self._closed = False
        lock = threading.Lock()
        self._filled = threading.Condition(lock)
        self._emptied = threading.Condition(lock)
        self._running = 0
        self._solo = False
        """Whether the pass that runs is a solo item's."""
        self._since: list[float | None] = [None] * passes
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"inference-{number}", daemon=True)
            for number in range(passes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy_since(self) -> float | None:
        """``time.monotonic()`` at the start of the oldest forward pass that runs now; None while none does."""
        return min((since for since in self._since if since is not None), default=None)

    def run(self, item: T, *, rank: int = 0, solo: bool = False) -> Result[R]:
        """Infer one item; blocks until it is done. Nothing else runs while a ``solo`` item does.

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
        when its result is there, from an inference thread, so it must be quick and must not raise.

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
            self._filled.notify_all()
            self._emptied.notify_all()
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _accept(self, slot: Slot[T, R], rank: int) -> None:
        with self._filled:
            while len(self._waiting) >= self._capacity and not self._closed:
                self._emptied.wait()
            if self._closed:
                raise BatcherClosed("this worker is stopping and accepts nothing more")
            heappush(self._waiting, (rank, next(self._order), slot))
            self._filled.notify()

    def _serve(self, number: int) -> None:
        batch: list[Slot[T, R]] = []
        try:
            while batch := self._take(finished=bool(batch)):
                self._settle(number, batch)
        finally:
            self._abandon(batch)

    def _take(self, *, finished: bool) -> list[Slot[T, R]]:
        """What this thread runs next; empty when closed and nothing is left.

        Args:
            finished: whether the thread has just run something.
        """
        with self._filled:
            if finished:
                self._running -= 1
                self._solo = False
            while not self._waiting or self._must_wait():
                if self._closed and not self._waiting:
                    self._filled.notify()
                    return []
                self._filled.wait()
            batch = self._next()
            self._running += 1
            self._solo = batch[0].solo
            self._emptied.notify(len(batch))
            if self._waiting or self._closed:
                self._filled.notify()  # another may have waited because of a solo item
            return batch

    def _must_wait(self) -> bool:
        """Whether a solo item runs, or is next while something else runs."""
        return self._solo or (self._running > 0 and self._waiting[0][-1].solo)

    def _next(self) -> list[Slot[T, R]]:
        """This thread's share of what waits: as much for every thread that is free, and no solo item beside another."""
        free = self._passes - self._running
        share = min(self._max_batch, -(-len(self._waiting) // free))
        batch = [heappop(self._waiting)[-1]]
        while len(batch) < share and not batch[0].solo and not self._waiting[0][-1].solo:
            batch.append(heappop(self._waiting)[-1])
        return batch

    def _settle(self, number: int, batch: list[Slot[T, R]]) -> None:
        """Give every slot of ``batch`` its result or its own error."""
        self._since[number] = started = time.monotonic()
        passes = self._running
        try:
            values = self._values(batch)
        except Exception as error:  # noqa: BLE001 - this is the inference thread's outermost loop; the error goes to its caller
            self._blame(number, batch, error)
            return
        finally:
            self._since[number] = None
        seconds = time.monotonic() - started
        for slot, value in zip(batch, values, strict=True):
            slot.answer = Result(value, len(batch), seconds, passes)
            slot.release()

    def _values(self, batch: list[Slot[T, R]]) -> Sequence[R]:
        values = self._infer([slot.item for slot in batch])
        if len(values) != len(batch):
            raise InferenceFailed(f"the model answered {len(values)} results for {len(batch)} items")
        return values

    def _blame(self, number: int, batch: list[Slot[T, R]], error: Exception) -> None:
        if len(batch) == 1:
            batch[0].error = error
            batch[0].release()
            return
        middle = len(batch) // 2
        self._settle(number, batch[:middle])
        self._settle(number, batch[middle:])

    def _abandon(self, batch: list[Slot[T, R]]) -> None:
        """When the thread ends for whatever reason, nobody is left waiting."""
        with self._filled:
            self._closed = True
            waiting = [slot for _, _, slot in self._waiting]
            left = [slot for slot in (*batch, *waiting) if slot.done.locked()]
            self._waiting.clear()
            self._filled.notify_all()
            self._emptied.notify_all()
        for slot in left:
            slot.release()
