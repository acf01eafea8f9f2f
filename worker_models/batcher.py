"""The adaptive batcher: items in, a few inference threads, batches out. It never waits for a batch to fill.

An inference thread takes what waits, the most urgent first and up to ``max_batch``, the moment it is free. On an idle
worker a batch is one item and waits for nothing; under load the items that arrive during one forward pass are the next
batch. Inference threads wait neither for one another, so none stands idle while there is work, nor does what is urgent
wait for the slowest of them. A batch that raises is split in halves until the item to blame is alone: only its caller
sees the error. Whatever ``infer`` raises is such an error, ``SystemExit`` too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
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

    __slots__ = ("answer", "began", "done", "error", "item", "since", "then")

    def __init__(self, item: T, then: Callable[[Slot[T, R]], object] | None) -> None:
        self.item = item
        self.then = then
        self.since = self.began = time.monotonic()
        """When it came, and when its last forward pass began, by the monotonic clock."""
        self.answer: Result[R] | None = None
        self.error: BaseException | None = None
        # A bare lock costs a tenth of an Event or a Future, and there is one for every request.
        self.done = threading.Lock()
        self.done.acquire()

    def result(self) -> Result[R]:
        """The item's answer; blocks until it is there, and may be called once.

        Raises:
            BatcherClosed: an inference thread ended before the item had its turn.
            BaseException: whatever ``infer`` raises for this item alone.
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
        lost: called from an inference thread that ends though nobody closed the batcher: a fault of this class.
        gather: seconds for which a batch that is not full waits for more items.
    """

    def __init__(
        self,
        infer: Callable[[Sequence[T]], Sequence[R]],
        max_batch: int,
        capacity: int,
        passes: int = 1,
        gather: float = 0.0,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        if min(max_batch, capacity, passes) < 1:
            raise ValueError("max_batch, capacity and passes must be at least 1")
        self._infer = infer
        self._max_batch = max_batch
        self._capacity = capacity
        self._passes = passes
        self._lost = lost
        self._gather = gather
        self._waiting: list[tuple[int, int, Slot[T, R]]] = []
        self._order = count()
        self._closed = False
        lock = threading.Lock()
        self._filled = threading.Condition(lock)
        self._emptied = threading.Condition(lock)
        self._running = 0
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

    @property
    def room(self) -> int:
        """How many items would be in a forward pass at once if they came now."""
        return max(0, (self._passes - self._running) * self._max_batch - len(self._waiting))

    @property
    def waiting(self) -> int:
        """How many items are in no forward pass yet."""
        return len(self._waiting)

    def run(self, item: T, *, rank: int = 0) -> Result[R]:
        """Infer one item; blocks until it is done.

        Raises:
            BatcherClosed: closed before the item was accepted.
            BaseException: whatever ``infer`` raises for this item alone.
        """
        return self.submit(item, rank=rank).result()

    def submit(self, item: T, *, rank: int = 0, then: Callable[[Slot[T, R]], object] | None = None) -> Slot[T, R]:
        """Hand one item in and go on; blocks only while ``capacity`` items wait. Read it with ``.result()``.

        Items of a lower ``rank`` go first, those of the same in the order they came. ``then`` is called with the slot
        when its result is there, from an inference thread, so it must be quick and must not raise.

        Raises:
            BatcherClosed: closed before the item was accepted.
        """
        slot: Slot[T, R] = Slot(item, then)
        self._accept(slot, rank)
        return slot

    def withdraw(self, seconds: float) -> list[Slot[T, R]]:
        """Take out the items that have waited for more than ``seconds``; they get neither a pass nor an answer."""
        before = time.monotonic() - seconds
        with self._filled:
            out = [slot for _, _, slot in sorted(self._waiting) if slot.since < before]
            self._waiting = [entry for entry in self._waiting if entry[-1].since >= before]
            heapify(self._waiting)
            self._emptied.notify(len(out))
        return out

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
        ended = False
        try:
            while batch := self._take(finished=bool(batch)):
                self._settle(number, batch)
            ended = True
        finally:
            self._abandon(batch)
            if not ended:
                self._lost()

    def _take(self, *, finished: bool) -> list[Slot[T, R]]:
        """What this thread runs next; empty when closed and nothing is left.

        Args:
            finished: whether the thread has just run something.
        """
        with self._filled:
            if finished:
                self._running -= 1
            while (pause := self._pause()) != 0:
                if self._closed:
                    self._filled.notify()
                    return []
                self._filled.wait(pause)
            batch = self._next()
            self._running += 1
            self._emptied.notify(len(batch))
            if self._waiting or self._closed:
                self._filled.notify()
            return batch

    def _pause(self) -> float | None:
        """Seconds to wait before the next batch is taken; None until there is an item."""
        if not self._waiting:
            return None
        if not self._gather or self._closed or len(self._waiting) >= self._max_batch:
            return 0
        return max(0.0, min(slot.since for _, _, slot in self._waiting) + self._gather - time.monotonic())

    def _next(self) -> list[Slot[T, R]]:
        """This thread's share of what waits: as much for every thread that is free."""
        free = self._passes - self._running
        share = min(self._max_batch, -(-len(self._waiting) // free))
        return [heappop(self._waiting)[-1] for _ in range(share)]

    def _settle(self, number: int, batch: list[Slot[T, R]]) -> None:
        """Give every slot of ``batch`` its result or its own error."""
        self._since[number] = started = time.monotonic()
        passes = self._running
        try:
            values = self._values(batch)
        except BaseException as error:  # noqa: BLE001 - a model may raise anything; it goes to its caller
            self._since[number] = None
            self._blame(number, batch, error, started)
            return
        self._since[number] = None
        seconds = time.monotonic() - started
        for slot, value in zip(batch, values, strict=True):
            slot.began = started
            slot.answer = Result(value, len(batch), seconds, passes)
            slot.release()

    def _values(self, batch: list[Slot[T, R]]) -> list[R]:
        values = list(self._infer([slot.item for slot in batch]))
        if len(values) != len(batch):
            raise InferenceFailed(f"the model answered {len(values)} results for {len(batch)} items")
        return values

    def _blame(self, number: int, batch: list[Slot[T, R]], error: BaseException, began: float) -> None:
        if len(batch) == 1:
            batch[0].error, batch[0].began = error, began
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
