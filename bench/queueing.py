"""Inferlane as a queueing system: lanes, workers and their batchers, simulated event by event.

What it keeps of the real thing: the order of lanes (the real class from ``tasks.lanes``), workers that hold up to
``concurrency`` requests and no more than two batches, the first worker that began to wait getting the next message,
and the batcher that takes whatever waits the moment it is free. What it leaves out: crashes, retries, Redis's own
time, and cores that workers share.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean

from tasks.lanes import ORDERS, PRIORITIES, WeightedOrder


@dataclass(frozen=True, kw_only=True)
class QueuePlan:
    """The plan of a simulation; times are seconds, ``rate`` is requests a second.

    A forward pass over ``b`` images takes ``base + service * b``, or that on average where ``scatter`` is exponential.
    ``pickup`` is what passes between a worker's taking a request and its being ready for a forward pass.
    """

    rate: float
    service: float
    workers: int
    base: float = 0.0
    pickup: float = 0.0
    max_batch: int = 16
    concurrency: int = 16
    mix: tuple[float, float, float] = (0.0, 1.0, 0.0)
    order: str = "weighted"
    weights: tuple[int, int, int] = (6, 3, 1)
    scatter: str = "constant"
    requests: int = 20_000
    seed: int = 1

    @property
    def credit(self) -> int:
        """The most requests a worker holds, see :meth:`tasks.worker.ownership.Ownership.has_room`."""
        return min(self.concurrency, 2 * self.max_batch)

    @property
    def utilisation(self) -> float:
        """The share of all workers' time that the work needs at least, with the largest batches."""
        return self.rate * (self.service + self.base / self.max_batch) / self.workers


@dataclass(slots=True)
class QueuedRequest:
    """One request on its way."""

    priority: str
    arrived: float
    started: float = math.nan
    ended: float = math.nan

    @property
    def wait(self) -> float:
        """Seconds from acceptance to the start of its forward pass."""
        return self.started - self.arrived

    @property
    def total(self) -> float:
        """Seconds from acceptance to the end of its forward pass."""
        return self.ended - self.arrived


@dataclass(slots=True)
class Worker:
    """A worker process: its requests, its next forward pass, and its lane order."""

    order: WeightedOrder
    held: int = 0
    ready: deque[QueuedRequest] = field(default_factory=deque)
    busy: bool = False
    listening: bool = False


class QueueRun:
    """The result of a :class:`QueuePlan`, simulated or real: all its calls, and the sizes of all forward passes."""

    def __init__(self, plan: QueuePlan) -> None:
        self.plan = plan
        self.calls: list[QueuedRequest] = []
        self.passes: list[int] = []

    def after_warmup(self, priority: str | None = None) -> list[QueuedRequest]:
        """The requests after the first tenth, which found the system empty; of one priority, or of all."""
        late = self.calls[len(self.calls) // 10 :]
        return [call for call in late if priority in (None, call.priority)]

    @property
    def mean_batch(self) -> float:
        """Images in a forward pass, on average."""
        return fmean(self.passes)


class Simulation(QueueRun):
    """One simulated run of a :class:`QueuePlan`.

    Requests arrive at random unless ``arrivals`` says when (seconds, in order) and with which priority.
    """

    def __init__(self, plan: QueuePlan, arrivals: Iterable[tuple[float, str]] | None = None) -> None:
        super().__init__(plan)
        self.now = 0.0
        self._chance = random.Random(plan.seed)  # noqa: S311 - the same numbers every time
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._lanes: dict[str, deque[QueuedRequest]] = {priority: deque() for priority in PRIORITIES}
        self._workers = [Worker(ORDERS[plan.order](plan.weights)) for _ in range(plan.workers)]
        self._listening: deque[Worker] = deque()
        self._arrivals = iter(arrivals) if arrivals is not None else self._random()

    def run(self) -> Simulation:
        """Let every request arrive and end."""
        for worker in self._workers:
            worker.order.update(PRIORITIES)
            self._take(worker)
        self._await_next()
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()
        return self

    def _at(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), act))

    def _random(self) -> Iterator[tuple[float, str]]:
        at = 0.0
        for _ in range(self.plan.requests):
            at += self._chance.expovariate(self.plan.rate)
            yield at, self._chance.choices(PRIORITIES, self.plan.mix)[0]

    def _await_next(self) -> None:
        """One arrival at a time waits among the events: the next is drawn when it has come."""
        if (coming := next(self._arrivals, None)) is not None:
            at, priority = coming
            self._at(at - self.now, lambda: self._arrive(priority))

    def _arrive(self, priority: str) -> None:
        call = QueuedRequest(priority, self.now)
        self.calls.append(call)
        self._lanes[priority].append(call)
        if self._listening:
            woken = self._listening.popleft()
            woken.listening = False
            self._take(woken)
        self._await_next()

    def _take(self, worker: Worker) -> None:
        """Take while there is credit and work; then wait for the bell behind other waiting workers."""
        while worker.held < self.plan.credit:
            lane = next((name for name in worker.order.consume(3) if self._lanes[name]), None)
            if lane is None:
                if not worker.listening:
                    worker.listening = True
                    self._listening.append(worker)
                return
            lane = self._most_overdue(lane)
            worker.order.rotate(lane)
            worker.held += 1
            call = self._lanes[lane].popleft()
            self._at(self.plan.pickup, lambda call=call: self._is_ready(worker, call))  # type: ignore[misc]

    def _most_overdue(self, lane: str) -> str:
        """As in ``take.lua``: an older request of a higher priority goes first."""
        urgent = [name for name in PRIORITIES[: PRIORITIES.index(lane)] if self._lanes[name]]
        return min([lane, *urgent], key=lambda name: self._lanes[name][0].arrived)

    def _is_ready(self, worker: Worker, call: QueuedRequest) -> None:
        worker.ready.append(call)
        if not worker.busy:
            # After the other events of this moment: what is taken together is inferred together.
            worker.busy = True
            self._at(0.0, lambda: self._begin(worker))

    def _begin(self, worker: Worker) -> None:
        batch = [worker.ready.popleft() for _ in range(min(len(worker.ready), self.plan.max_batch))]
        for call in batch:
            call.started = self.now
        self.passes.append(len(batch))
        lasts = (self.plan.base + self.plan.service * len(batch)) * self._scatter()
        self._at(lasts, lambda: self._end(worker, batch))

    def _end(self, worker: Worker, batch: Sequence[QueuedRequest]) -> None:
        for call in batch:
            call.ended = self.now
        worker.held -= len(batch)
        worker.busy = bool(worker.ready)
        if worker.busy:
            self._begin(worker)
        self._take(worker)

    def _scatter(self) -> float:
        return self._chance.expovariate(1.0) if self.plan.scatter == "exponential" else 1.0


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of ``values`` do not exceed (nearest rank); not a number when there is none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def erlang_c(rate: float, service: float, workers: int) -> float:
    """Mean wait of an M/M/c queue in seconds (Erlang, 1917): the simulation's result in that special case."""
    load = rate * service
    if load >= workers:
        return math.inf
    blocked = 1.0
    for number in range(1, workers + 1):  # Erlang B, by its recursion
        blocked = load * blocked / (number + load * blocked)
    waits = blocked / (1 - (load / workers) * (1 - blocked))
    return waits * service / (workers - load)
