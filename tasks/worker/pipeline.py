"""How a worker performs deliveries: begin, decode, infer, commit, by few threads and many requests at a time.

::

    put -> [starter: begin] -> [decoders] -> [batcher: infer] -> [finisher: predictions, commit] -> ended

A thread for each delivery would wait for Redis twice and for the forward pass once, and every wait passes Python's
interpreter to another thread and back: that costs more than the work. Here everything that has arrived at a stage goes
through it together: all deliveries that arrived are begun in one round trip, and a forward pass is committed in one.

Whatever a model raises ends its own request only. A request that a worker has died with runs while nothing else does,
so that the next death can be blamed on it. What waits behind something slow does not count as running and goes to a
free worker if there is one: see :meth:`Pipeline.tick`.

It knows nothing of Celery.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.celery import app
from tasks.errors import TransientFailure
from tasks.lanes import ANY, Lane, urgency
from tasks.protocol import envelope
from tasks.protocol.records import Records
from tasks.protocol.requests import Attempt, Outcome, Started, State
from tasks.worker.exits import end_process
from tasks.worker.outcomes import failed, of_model, succeeded
from worker_models.batcher import Batcher
from worker_models.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from tasks.worker.ownership import Ownership
    from worker_models.batcher import Slot
    from worker_models.model import BatcherShape, Model

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds after which a decoding or a forward pass is slow, and a request that waits behind it is queued again.
SLOW = 0.5


@dataclass(slots=True)
class Tally:
    """What this worker has done since it started; read by the lease thread."""

    processed: int = 0
    failed: int = 0
    service_seconds: float = 0.0


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """A delivery on its way.

    Attributes:
        ids: its requests.
        tag: its tag.
        lane: where it came from.
        retries: how often its requests have been tried again after a failure.
        last_try: whether a failure that may pass is final.
        ended: called once from the finisher, with this, when nothing of it is left to do here.
        left: how many of its requests have not ended.
        failures: the attempts that are to be tried again, and why.
        fault: what kept the delivery from being performed; it is no request's outcome.
        taken: when it came, by the monotonic clock.
        entries: what went through the model, kept only for a trace.
    """

    ids: Sequence[str]
    tag: str
    lane: str
    retries: int = 0
    last_try: bool = False
    ended: Callable[[Delivery], object] = lambda _: None
    left: int = 0
    failures: list[tuple[Attempt, Exception]] = field(default_factory=list)
    fault: Exception | None = None
    taken: float = field(default_factory=time.monotonic)
    entries: list[Entry] = field(default_factory=list)

    def check(self) -> None:
        """How it went.

        Raises:
            TransientFailure: some requests want another attempt.
            Exception: the fault.
        """
        if self.fault is not None:
            raise self.fault
        if self.failures:
            _, first = self.failures[0]
            raise TransientFailure(f"{len(self.failures)} of {len(self.ids)} requests failed for now: {first}")


@dataclass(slots=True, eq=False)
class Entry:
    """One request of a delivery on its way to the finisher.

    Attributes:
        delivery: the delivery.
        attempt: None when there is nothing to run.
        since: when it was put into the queue for decoding, then when decoding began, by the monotonic clock.
        pixels: the decoded image.
        decode_seconds: how long decoding took.
        slot: the batcher's.
        error: what went wrong before the forward pass.
        returned: the request that goes back to its lane because it has not run.
        aside: whether it waits behind something slow and is to be paused.
        paused: whether it is queued again while it waits here, and has to begin once more.
        dropped: whether it has ended, or runs elsewhere, since it was paused.
    """

    delivery: Delivery
    attempt: Attempt | None = None
    since: float = field(default_factory=time.monotonic)
    pixels: Any = None
    decode_seconds: float = 0.0
    slot: Slot[Entry, Any] | None = None
    error: Exception | None = None
    returned: str | None = None
    aside: bool = False
    paused: bool = False
    dropped: bool = False

    def answered(self) -> Slot[Entry, Any]:
        """The slot with its answer; raises what went wrong before the forward pass or in it."""
        if self.slot is None:
            raise self.error or AssertionError("neither handed in nor failed")
        of_model(self.slot.check)
        return self.slot

    def forget(self) -> None:
        """Let go of what refers back to this: a slot, and the frames of an error, which hold the image, would stay.

        They are freed at once then, instead of when the garbage collector gets to them: it counts objects, not bytes.
        """
        self.slot = self.error = self.pixels = None


class Pipeline:
    """Performs deliveries with one model.

    Args:
        model: the model.
        infer: its ``infer``, perhaps with faults on purpose.
        shape: of its batcher.
        records: the request records, over a patient client.
        owner: which deliveries this worker holds.
        decoders: how many images are decoded at a time.
        trace: called with each delivery that has ended and with what went through the model in it.
    """

    def __init__(
        self,
        model: Model,
        infer: Callable[[Sequence[Any]], Sequence[Any]],
        shape: BatcherShape,
        records: Records,
        owner: Ownership,
        decoders: int,
        trace: Callable[[Delivery], object] | None = None,
    ) -> None:
        self.model = model
        self.owner = owner
        self.tally = Tally()
        self._infer_pixels = infer
        self.batcher: Batcher[Entry, Any] = Batcher(self._infer, *shape, lost=partial(_give_up, "an inference thread"))
        self.records = records
        self._trace = trace
        self._new: SimpleQueue[Delivery | None] = SimpleQueue()
        self._undecoded: SimpleQueue[Entry | None] = SimpleQueue()
        self._done: SimpleQueue[Entry | None] = SimpleQueue()
        self._open = 0
        """Deliveries that the starter has seen and whose end has not been told."""
        self._active = 0
        """Requests that have begun and not ended."""
        self._changed = threading.Condition()
        self._idle: frozenset[str] = frozenset()
        """Models with another worker that has nothing to do."""
        self._since: list[float | None] = [None] * (decoders + 1)
        """Since when each decoder is in the model's hands, and last the finisher."""
        self._starter = _thread("starter", self._new, self._begin)
        self._finisher = _thread("finisher", self._done, self._end)
        for number in range(decoders):
            _thread(f"decoder-{number}", self._undecoded, partial(self._decode, number), most=1)

    def put(self, delivery: Delivery) -> None:
        """Perform a delivery; returns at once."""
        self._new.put(delivery)

    def close(self) -> None:
        """Wait until all that was put has ended; then nothing may be put any more."""
        self._new.put(None)
        self._starter.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._open)
        self._done.put(None)
        self._finisher.join()
        self.batcher.close(timeout=1.0)

    # -- what the lease thread and the transport ask

    @property
    def in_flight(self) -> int:
        """How many requests have begun and not ended."""
        return self._active

    @property
    def busy_since(self) -> float | None:
        """``time.monotonic()`` when the model was given what it has worked on for longest; None for nothing."""
        times = (*self._since, self.batcher.busy_since)
        return min((since for since in times if since is not None), default=None)

    @property
    def slow(self) -> bool:
        """Whether the model has worked on something for so long that nothing should wait behind it."""
        since = self.busy_since
        return since is not None and time.monotonic() - since > SLOW

    def most(self) -> int:
        """How many requests to hold: a batch that runs and one ahead of it; when slow, only what runs at once."""
        if not self.slow:
            return 2 * self.owner.batch
        running = self._active - self._undecoded.qsize() - self.batcher.waiting
        decoders = self._since[:-1].count(None)
        return max(0, running) + min(decoders, self.batcher.room)

    def tick(self, idle: frozenset[str]) -> None:
        """Look after what waits behind something slow; call it a few times a second.

        It goes back to its lane if another worker has nothing to do. Otherwise it keeps its place here but is queued
        again, so that its deadline holds and nobody reads that it runs. Either way its attempt does not count.

        Args:
            idle: models with another worker that has nothing to do; looked at only while :attr:`slow`.
        """
        self._idle = idle
        if not self.slow:
            return
        for delivery in _drain(self._new):
            if self._elsewhere(delivery.lane):
                self._opened([delivery])
                self._dispatch(delivery, [Entry(delivery, returned=name) for name in delivery.ids])
            else:
                self._new.put(delivery)
        before = time.monotonic() - SLOW
        for entry in _drain(self._undecoded):
            if entry.since < before:
                self._set_aside(entry)
            else:
                self._undecoded.put(entry)
        for slot in self.batcher.withdraw(SLOW):
            self._set_aside(slot.item)

    def _elsewhere(self, lane: str) -> bool:
        model = Lane.parse(lane).model
        return bool(self._idle) if model == ANY else model in self._idle

    def _set_aside(self, entry: Entry) -> None:
        """Return it, or pause it once: the finisher does it, because it may have to wait for Redis."""
        if entry.attempt is not None and self._elsewhere(entry.delivery.lane):
            entry.returned = entry.attempt.id
        entry.aside = entry.returned is None
        self._done.put(entry)

    # -- the starter

    def _begin(self, deliveries: list[Delivery]) -> None:
        self._opened(deliveries)
        suspects: list[tuple[Entry, str]] = []
        for delivery, started in zip(deliveries, self._begun(deliveries), strict=True):
            waiting = [Entry(delivery) for _ in started.suspects]
            suspects += zip(waiting, started.suspects, strict=True)
            self._dispatch(delivery, (Entry(delivery, attempt) for attempt in started.attempts), len(waiting))
        for entry, request_id in suspects:
            self._run_alone(entry, request_id)

    def _opened(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            self._open += len(deliveries)

    def _begun(self, deliveries: Sequence[Delivery]) -> list[Started]:
        """What each of these may run; one that cannot be begun must not keep the others from it."""
        held = [(delivery.ids, delivery.tag) for delivery in deliveries]
        try:
            return self.records.begin_all(held, self.owner.boot, self.model.name)
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: it is given back, whatever it was
            if len(deliveries) == 1:
                deliveries[0].fault = error
                return [Started()]
        return [started for delivery in deliveries for started in self._begun([delivery])]

    def _dispatch(self, delivery: Delivery, entries: Iterable[Entry], later: int = 0) -> None:
        """Send the entries of a delivery on their way; ``later`` more follow."""
        found = list(entries)
        if not found and not later:
            found = [Entry(delivery)]  # nothing to run: only its end is left to tell
        delivery.left = len(found) + later
        for entry in found:
            self._send(entry)

    def _send(self, entry: Entry) -> None:
        if entry.attempt is None:
            self._done.put(entry)
            return
        with self._changed:
            self._active += 1
        self._undecoded.put(entry)

    def _run_alone(self, entry: Entry, request_id: str) -> None:
        """Run a request that a worker has died with while nothing else runs here; return it if that cannot be soon."""
        delivery = entry.delivery
        with self._changed:
            while self._active and not (self.slow and self._elsewhere(delivery.lane)):
                self._changed.wait(SLOW / 2)
            quiet = not self._active
        if not quiet:
            entry.returned = request_id
            self._send(entry)
            return
        try:
            begun = self.records.begin([request_id], self.owner.boot, delivery.tag, self.model.name, alone=True)
        except Exception as error:  # noqa: BLE001 - as in _begun
            delivery.fault = error
        else:
            entry.attempt = begun.attempts[0] if begun.attempts else None
        entry.since = time.monotonic()
        self._send(entry)
        with self._changed:
            self._changed.wait_for(lambda: not self._active)

    # -- the decoders

    def _decode(self, number: int, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.paused:
                self._resume([entry])
            if entry.dropped or entry.attempt is None:
                self._done.put(entry)
                continue
            entry.since = self._since[number] = time.monotonic()
            try:
                entry.pixels = of_model(self.model.decode, entry.attempt.image)
            except ModelError as error:
                entry.error = error
            self._since[number] = None
            entry.attempt = replace(entry.attempt, image=b"")  # it may be large, and is not needed any more
            entry.decode_seconds = time.monotonic() - entry.since
            self._submit(entry)

    def _submit(self, entry: Entry) -> None:
        try:
            if entry.error is None:
                self.batcher.submit(entry, self._inferred, urgency(entry.delivery.lane))
                return
        except ModelError as error:
            entry.error = error
        self._done.put(entry)

    # -- the inference threads

    def _infer(self, entries: Sequence[Entry]) -> Sequence[Any]:
        """The model's answers; nothing for those that were paused and may not go on."""
        if paused := [entry for entry in entries if entry.paused]:
            self._resume(paused)
        live = [entry for entry in entries if not entry.dropped]
        values = self._infer_pixels([entry.pixels for entry in live]) if live else []
        if len(live) == len(entries):
            return values
        left = iter(values)
        return [None if entry.dropped else next(left) for entry in entries]

    def _inferred(self, slot: Slot[Entry, Any]) -> None:
        slot.item.slot = slot
        self._done.put(slot.item)

    def _resume(self, entries: Sequence[Entry]) -> None:
        """Begin paused requests again; those that may not are dropped."""
        for entry in entries:
            entry.paused, entry.dropped = False, True
            if (attempt := entry.attempt) is None:
                continue
            delivery = entry.delivery
            try:
                begun = self.records.begin([attempt.id], self.owner.boot, delivery.tag, self.model.name)
            except Exception as error:  # noqa: BLE001 - as in _begun
                delivery.fault = error
                continue
            if begun.attempts:
                entry.attempt, entry.dropped = begun.attempts[0], False

    # -- the finisher

    def _end(self, entries: list[Entry]) -> None:
        aside = [entry for entry in entries if entry.aside]
        ended = [entry for entry in entries if not entry.aside]
        try:
            self._give_back([entry for entry in ended if entry.returned])
            self._finish([entry for entry in ended if not entry.returned and not entry.dropped])
            self._pause(aside)
        except Exception as error:  # noqa: BLE001 - as in _begun; what has been committed all the same is not run again
            for entry in entries:
                entry.delivery.fault = error
            ended = entries
        with self._changed:
            self._active -= sum(entry.attempt is not None for entry in ended)
            self._changed.notify_all()
        for entry in ended:
            delivery = entry.delivery
            if self._trace is None:
                entry.forget()
            elif entry.attempt is not None:
                delivery.entries.append(entry)
            self.owner.ended(delivery.tag)
            delivery.left -= 1
            if not delivery.left:
                self._tell(delivery)

    def _tell(self, delivery: Delivery) -> None:
        if self._trace is not None:
            self._trace(delivery)
            for entry in delivery.entries:
                entry.forget()
        delivery.ended(delivery)
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def _give_back(self, entries: Sequence[Entry]) -> None:
        """Return requests that have not run to their lanes, those of a delivery in one message."""
        returned: dict[Delivery, list[str]] = defaultdict(list)
        for entry in entries:
            if entry.returned:
                returned[entry.delivery].append(entry.returned)
        for delivery, ids in returned.items():
            message = envelope.seal(app, delivery.lane, ids, retries=delivery.retries)
            self.records.give_back(self.owner.boot, delivery.tag, delivery.lane, message, ids)

    def _pause(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.attempt is not None and not entry.paused:
                ids = [entry.attempt.id]
                self.records.give_back(self.owner.boot, entry.delivery.tag, entry.delivery.lane, "", ids)
        for entry in entries:
            entry.aside, entry.paused = False, True
            if entry.pixels is None:
                self._undecoded.put(entry)
            else:
                self._submit(entry)

    def _finish(self, entries: Sequence[Entry]) -> None:
        """Commit these in one round trip, but for those that failed for now."""
        ends: list[tuple[Attempt, Outcome]] = []
        for entry in entries:
            if (attempt := entry.attempt) is None:
                continue
            end = self._conclude(entry, attempt)
            if isinstance(end, Outcome):
                ends.append((attempt, end))
            else:
                entry.delivery.failures.append((attempt, end))
        try:
            self.records.commit_all(self.owner.boot, ends)
        finally:
            self._learn([end for _, end in ends])

    def _conclude(self, entry: Entry, attempt: Attempt) -> Outcome | Exception:
        """How the attempt ended, or the error for which it is to be tried again."""
        try:
            return self._success(entry, attempt, entry.answered())
        except Exception as error:  # noqa: BLE001 - as in _decode
            if not isinstance(error, InvalidInput) and not entry.delivery.last_try:
                return error
            return failed(attempt, error, entry.decode_seconds)

    def _success(self, entry: Entry, attempt: Attempt, slot: Slot[Entry, Any]) -> Outcome:
        self._since[-1] = time.monotonic()
        try:
            predictions = of_model(self.model.predictions, slot.value, attempt.spec["top_k"])
        finally:
            self._since[-1] = None
        return succeeded(self.model, predictions, entry.decode_seconds, slot)

    def _learn(self, outcomes: Sequence[Outcome]) -> None:
        """Count, and keep a moving average of what one request costs the inference threads together, in seconds."""
        tally = self.tally
        for outcome in outcomes:
            if outcome.state is State.FAILED:
                tally.failed += 1
                continue
            tally.processed += 1
            cost = outcome.infer / (outcome.batch * outcome.passes)
            before = tally.service_seconds
            tally.service_seconds = cost if before == 0 else before + 0.1 * (cost - before)


def _thread(
    name: str, queue: SimpleQueue[T | None], act: Callable[[list[T]], None], most: int | None = None
) -> threading.Thread:
    thread = threading.Thread(target=_serve, args=(name, queue, act, most), name=name, daemon=True)
    thread.start()
    return thread


def _serve(name: str, queue: SimpleQueue[T | None], act: Callable[[list[T]], None], most: int | None) -> None:
    """Act on everything in the queue, at most so many at a time, until a None in it."""
    try:
        while None not in (found := _arrived(queue, most)):
            act(found)  # type: ignore[arg-type]
        act([item for item in found if item is not None])
    except BaseException:  # noqa: BLE001 - whatever it was, the thread is lost
        _give_up(f"the {name}")


def _give_up(what: str) -> None:
    """A worker that takes deliveries and does not perform them must not look as if it did."""
    log.critical("%s failed: this worker exits, its requests are rescued", what, exc_info=sys.exc_info())
    end_process()


def _arrived(queue: SimpleQueue[T], most: int | None) -> list[T]:
    found = [queue.get()]
    with suppress(Empty):
        while most is None or len(found) < most:
            found.append(queue.get_nowait())
    return found


def _drain(queue: SimpleQueue[T | None]) -> list[T]:
    """What is in the queue now; the word that it is closed stays in it."""
    found, closed = [], False
    with suppress(Empty):
        while True:
            item = queue.get_nowait()
            if item is None:
                closed = True
            else:
                found.append(item)
    if closed:
        queue.put(None)
    return found
