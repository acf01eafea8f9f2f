"""The adaptive batcher: items in, a few inference threads, forward passes out. It never waits for a pass to fill.

A free inference thread takes the waiting items, the most urgent first and up to ``max_batch``. On an idle worker a pass
is one item; under load the items that arrive during one pass form the next. The threads do not wait for one another, so
none is idle while there is work, and an urgent item does not wait for the slowest of them. A pass that raises is split
in halves until the failing item is alone: only that item gets the error, even ``SystemExit``.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Generic, TypeVar

from worker_models.errors import BatcherClosed, InferenceFailed


@dataclass(slots=True, eq=False)
class BatchItem:
    """Base of the batcher's items, with what the batcher fills in.

    Attributes:
        since: when it was submitted, by the monotonic clock.
        began: when its last forward pass began; zero before.
        value: what ``infer`` returned for it.
        error: what ``infer`` raised for it alone.
        size: the items of its forward pass.
        seconds: that pass's wall time.
        passes: how many passes ran side by side when that one began, itself included.
        then: called when it is finished.
    """

    since: float = field(default=0.0, init=False)
    began: float = field(default=0.0, init=False)
    value: Any = field(default=None, init=False)
    error: BaseException | None = field(default=None, init=False)
    size: int = field(default=1, init=False)
    seconds: float = field(default=0.0, init=False)
    passes: int = field(default=1, init=False)
    then: Callable[[Any], object] = field(default=lambda _: None, init=False)

    def check(self) -> None:
        """Raise the item's error if it has one."""
        if self.error is not None:
            raise self.error


B = TypeVar("B", bound=BatchItem)


class Batcher(Generic[B]):
    """Runs ``infer``, which maps items to as many results in order, in as many threads as ``passes``, started here.

    ``max_batch`` is the most items of a pass, ``gather`` the seconds for which a pass that is not full waits for more.
    ``lost`` is called from an inference thread that fails before :meth:`close`, by a bug here or in ``then``.
    """

    def __init__(
        self, infer: Callable[[Sequence[B]], Sequence[Any]], max_batch: int, passes: int = 1, gather: float = 0.0,
        lost: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        if min(max_batch, passes) < 1:
            raise ValueError("max_batch and passes must be at least 1")
        self._infer, self._lost = infer, lost
        self._max_batch, self._passes, self._gather = max_batch, passes, gather
        self._waiting: list[tuple[int, int, B]] = []
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

    def submit(self, item: B, then: Callable[[B], object], rank: int = 0) -> None:
        """Queue an item; those with a lower ``rank`` go first, those of equal rank in order of arrival.

        ``then`` is called from an inference thread with the finished item; it must be quick and not raise.

        Raises:
            BatcherClosed: the batcher is closed.
        """
        item.since, item.then = time.monotonic(), then
        with self._changed:
            if self._closed:
                raise BatcherClosed("this worker is stopping and accepts nothing more")
            heappush(self._waiting, (rank, next(self._order), item))
            self._changed.notify()

    def withdraw(self, seconds: float) -> list[B]:
        """Remove the items that have waited for more than ``seconds``; ``then`` is not called for them."""
        before = time.monotonic() - seconds
        with self._changed:
            late = [item for _, _, item in sorted(self._waiting) if item.since < before]
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
        items: list[B] = []
        try:
            while items := self._take(finished=bool(items)):
                self._run(number, items)
        except BaseException:
            self._lost()
            raise

    def _take(self, *, finished: bool) -> list[B]:
        """The next pass of this thread, which may have ``finished`` one; empty when closed and nothing is left."""
        with self._changed:
            if finished:
                self._running -= 1
            while (pause := self._pause()) != 0:
                if self._closed:
                    self._changed.notify()
                    return []
                self._changed.wait(pause)
            # This thread's share: the waiting items are divided evenly among the free threads.
            share = min(self._max_batch, -(-len(self._waiting) // (self._passes - self._running)))
            items = [heappop(self._waiting)[-1] for _ in range(share)]
            self._running += 1
            if self._waiting or self._closed:
                self._changed.notify()
            return items

    def _pause(self) -> float | None:
        """Seconds until the next pass may start; None until there is an item."""
        if not self._waiting:
            return None
        if not self._gather or self._closed or len(self._waiting) >= self._max_batch:
            return 0
        return max(0.0, min(item.since for _, _, item in self._waiting) + self._gather - time.monotonic())

    def _run(self, number: int, items: list[B]) -> None:
        """Give every item its value or its own error."""
        self._since[number] = started = time.monotonic()
        passes = self._running
        try:
            values = self._values(items)
        except BaseException as error:  # noqa: BLE001 - a model may raise anything; it goes to its item
            self._since[number] = None
            self._fail(number, items, error, started)
            return
        self._since[number] = None
        seconds = time.monotonic() - started
        for item, value in zip(items, values, strict=True):
            item.began, item.seconds, item.size, item.passes = started, seconds, len(items), passes
            item.value = value
            item.then(item)

    def _values(self, items: list[B]) -> list[Any]:
        values = list(self._infer(items))
        if len(values) != len(items):
            raise InferenceFailed(f"the model answered {len(values)} results for {len(items)} items")
        return values

    def _fail(self, number: int, items: list[B], error: BaseException, began: float) -> None:
        """Give a lone item its error, and run the halves of a larger pass again."""
        if len(items) == 1:
            items[0].error, items[0].began, items[0].seconds = error, began, time.monotonic() - began
            items[0].then(items[0])
            return
        middle = len(items) // 2
        self._run(number, items[:middle])
        self._run(number, items[middle:])
