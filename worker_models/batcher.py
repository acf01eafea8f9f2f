"""The adaptive batcher: items in, a few inference threads, forward passes out. It never waits for a pass to fill.

A free inference thread takes what has arrived, the most urgent first and up to ``max_batch`` items. On an idle worker a
pass is one item; under load the items that arrive during one pass form the next. The threads do not wait for one
another, so none is idle while there is work, and an urgent item does not wait for the slowest of them. A pass that
raises is split in halves until the failing item is alone: only that item gets the error, even ``SystemExit``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar, cast

from worker_models.errors import BatcherClosed, InferenceFailed

T = TypeVar("T")
R = TypeVar("R")


class Slot(Generic[T, R]):
    """One item in the batcher, then its answer.

    Attributes:
        item: what was submitted.
        since: when it was submitted, by the monotonic clock.
        began: when its last forward pass began.
        value: what ``infer`` returned for it.
        error: what ``infer`` raised for it alone.
        size: the items of its forward pass.
        seconds: that pass's wall time.
        passes: how many passes ran side by side when that one began, itself included.
    """

    __slots__ = ("began", "error", "item", "passes", "seconds", "since", "size", "then", "value")

    def __init__(self, item: T, then: Callable[[Slot[T, R]], object]) -> None:
        self.item = item
        self.then = then
        self.since = self.began = time.monotonic()
        self.value = cast("R", None)
        self.error: BaseException | None = None
        self.size = self.passes = 1
        self.seconds = 0.0

    def check(self) -> None:
        """Raise the item's error if it has one."""
        if self.error is not None:
            raise self.error


class Batcher(Generic[T, R]):
    """Runs ``infer`` in its own threads, which start here.

    Args:
        infer: maps a sequence of items to as many results, in order.
        max_batch: the most items of one forward pass.
        passes: how many forward passes may run side by side; ``infer`` is called from as many threads.
        gather: seconds for which a pass that is not full waits for more items.
        lost: called from an inference thread that fails before :meth:`close`: a bug in this class or in ``then``.
    """

    def __init__(
        self,
        infer: Callable[[Sequence[T]], Sequence[R]],
        max_batch: int,
        passes: int = 1,
        gather: float = 0.0,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        if min(max_batch, passes) < 1:
            raise ValueError("max_batch and passes must be at least 1")
        self._infer = infer
        self._max_batch = max_batch
        self._passes = passes
        self._gather = gather
        self._lost = lost
        self._waiting: list[tuple[int, int, Slot[T, R]]] = []
        self._order = count()
        self._closed = False
        self._changed = threading.Condition(threading.Lock())
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
        """``time.monotonic()`` at the start of the oldest running forward pass; None while none runs."""
        return min((since for since in self._since if since is not None), default=None)

    @property
    def room(self) -> int:
        """How many more items would start a forward pass at once."""
        return max(0, (self._passes - self._running) * self._max_batch - len(self._waiting))

    @property
    def waiting(self) -> int:
        """How many items are in no forward pass yet."""
        return len(self._waiting)

    def submit(self, item: T, then: Callable[[Slot[T, R]], object], rank: int = 0) -> None:
        """Queue an item; those with a lower ``rank`` go first, those of equal rank in order of arrival.

        ``then`` is called from an inference thread with the slot of the finished item; it must be quick and not raise.

        Raises:
            BatcherClosed: the batcher is closed.
        """
        slot: Slot[T, R] = Slot(item, then)
        with self._changed:
            if self._closed:
                raise BatcherClosed("this worker is stopping and accepts nothing more")
            heappush(self._waiting, (rank, next(self._order), slot))
            self._changed.notify()

    def withdraw(self, seconds: float) -> list[Slot[T, R]]:
        """Remove the items that have waited for more than ``seconds``; ``then`` is not called for them."""
        before = time.monotonic() - seconds
        with self._changed:
            late = [slot for _, _, slot in sorted(self._waiting) if slot.since < before]
            self._waiting = [waiting for waiting in self._waiting if waiting[-1].since >= before]
            heapify(self._waiting)
        return late

    def close(self, timeout: float | None = None) -> None:
        """Accept nothing more, finish what was accepted, stop; wait for that at most ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _serve(self, number: int) -> None:
        slots: list[Slot[T, R]] = []
        try:
            while slots := self._take(finished=bool(slots)):
                self._run(number, slots)
        except BaseException:
            self._lost()
            raise

    def _take(self, *, finished: bool) -> list[Slot[T, R]]:
        """The next pass of this thread; empty when closed and nothing is left.

        Args:
            finished: whether the thread has just run a pass.
        """
        with self._changed:
            if finished:
                self._running -= 1
            while (pause := self._pause()) != 0:
                if self._closed:
                    self._changed.notify()
                    return []
                self._changed.wait(pause)
            slots = self._next()
            self._running += 1
            if self._waiting or self._closed:
                self._changed.notify()
            return slots

    def _pause(self) -> float | None:
        """Seconds until the next pass may start; None until there is an item."""
        if not self._waiting:
            return None
        if not self._gather or self._closed or len(self._waiting) >= self._max_batch:
            return 0
        return max(0.0, min(slot.since for _, _, slot in self._waiting) + self._gather - time.monotonic())

    def _next(self) -> list[Slot[T, R]]:
        """This thread's share of the waiting items: they are divided evenly among the free threads."""
        free = self._passes - self._running
        share = min(self._max_batch, -(-len(self._waiting) // free))
        return [heappop(self._waiting)[-1] for _ in range(share)]

    def _run(self, number: int, slots: list[Slot[T, R]]) -> None:
        """Give every slot its value or its own error."""
        self._since[number] = started = time.monotonic()
        passes = self._running
        try:
            values = self._values(slots)
        except BaseException as error:  # noqa: BLE001 - a model may raise anything; it goes to its item
            self._since[number] = None
            self._fail(number, slots, error, started)
            return
        self._since[number] = None
        seconds = time.monotonic() - started
        for slot, value in zip(slots, values, strict=True):
            slot.began, slot.seconds, slot.size, slot.passes = started, seconds, len(slots), passes
            slot.value = value
            slot.then(slot)

    def _values(self, slots: list[Slot[T, R]]) -> list[R]:
        values = list(self._infer([slot.item for slot in slots]))
        if len(values) != len(slots):
            raise InferenceFailed(f"the model answered {len(values)} results for {len(slots)} items")
        return values

    def _fail(self, number: int, slots: list[Slot[T, R]], error: BaseException, began: float) -> None:
        """Give a lone slot its error, and run the halves of a larger pass again."""
        if len(slots) == 1:
            slots[0].error, slots[0].began = error, began
            slots[0].then(slots[0])
            return
        middle = len(slots) // 2
        self._run(number, slots[:middle])
        self._run(number, slots[middle:])
