"""How a worker performs deliveries: with few threads, many requests at a time.

::

    put -> [starter: begin] -> [decoders] -> [batcher: infer] -> [finisher: predictions, commit] -> ended

With a thread per delivery, switching threads would cost more than the work. A stage acts on everything that has
arrived: deliveries are begun in one round trip, and a forward pass is committed in one.

An exception of the model ends only its request. A request that a worker has died with runs alone, so that the next
death can be blamed on it. The backlog behind a slow call does not count as running and goes to an idle worker, if there
is one (:meth:`Pipeline.tick`). The pipeline knows nothing of Celery.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.lanes import ANY, Lane, urgency
from tasks.protocol.payloads import PayloadLost
from tasks.protocol.requests import Started
from tasks.worker.delivery import Delivery, Entry
from tasks.worker.finisher import Finisher
from tasks.worker.outcomes import of_model
from tasks.worker.stage import ModelTimes, Stage, give_up
from worker_models.batcher import Batcher
from worker_models.errors import ModelError

if TYPE_CHECKING:
    from tasks.protocol.records import Records
    from tasks.worker.ownership import Ownership
    from worker_models.model import BatcherShape, Model

#: Seconds after which a call of the model is slow, and the requests behind it are queued again.
SLOW = 0.5


class Pipeline:
    """Performs deliveries with one model.

    ``infer`` is the model's, perhaps with injected faults; ``records`` uses a patient client; ``decoders`` is how many
    images are decoded at a time; ``trace`` is called with each delivery that has ended.
    """

    def __init__(
        self, model: Model, infer: Callable[[Sequence[Any]], Sequence[Any]], shape: BatcherShape, records: Records,
        owner: Ownership, decoders: int, trace: Callable[[Delivery], object] | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.owner = owner
        self.records = records
        self._infer_pixels = infer
        self._decoders = decoders
        self._trace = trace
        self._finisher = Finisher(model, records, owner)
        self.tally = self._finisher.tally
        self.batcher: Batcher[Entry] = Batcher(self._infer, *shape, lost=partial(give_up, "an inference thread"))
        self._open = 0
        """Deliveries that the starter has seen and that have not ended."""
        self._active = 0
        """Requests that have begun and not ended."""
        self._changed = threading.Condition()
        self._idle: frozenset[str] = frozenset()
        """Models with an idle worker."""
        self._decoding = ModelTimes()
        self._starting: Stage[Delivery] = Stage("starter", self._begin)
        self._ending: Stage[Entry] = Stage("finisher", self._end)
        self._undecoded: Stage[Entry] = Stage("decoder", self._decode, decoders, most=1)

    def put(self, delivery: Delivery) -> None:
        """Perform a delivery; returns at once."""
        self._starting.put(delivery)

    def close(self) -> None:
        """Wait until every delivery has ended; put none afterwards."""
        self._starting.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._open)
        self._ending.close()
        self.batcher.close(timeout=1.0)

    # -- for the lease thread and the channel

    @property
    def in_flight(self) -> int:
        """How many requests have begun and not ended."""
        return self._active

    @property
    def busy_since(self) -> float | None:
        """``time.monotonic()`` at the start of the model's oldest running call; None while none runs."""
        calls = [*self._decoding.since, *self._finisher.predicting.since]
        infer = self.batcher.busy_since
        return min(calls if infer is None else [*calls, infer], default=None)

    @property
    def slow(self) -> bool:
        """Whether a call of the model has run for longer than SLOW."""
        since = self.busy_since
        return since is not None and time.monotonic() - since > SLOW

    def most(self) -> int:
        """How many requests to hold: the running pass and one ahead of it; when slow, only what runs at once."""
        if not self.slow:
            return 2 * self.owner.batch
        running = self._active - len(self._undecoded) - self.batcher.waiting
        return max(0, running) + min(self._decoders - len(self._decoding), self.batcher.room)

    def tick(self, idle: frozenset[str]) -> None:
        """Move the backlog of a slow call; call it a few times a second.

        A request goes back to its lane if another worker is idle (``idle``: the models of such workers, used only while
        :attr:`slow`). Otherwise it keeps its place here but is queued again, so that its deadline holds and it does not
        show as running. Either way its attempt does not count.
        """
        self._idle = idle
        if not self.slow:
            return
        for delivery in self._starting.drain():
            if self._elsewhere(delivery):
                self._opened([delivery])
                self._dispatch(delivery, [Entry(delivery, name, returned=True) for name in delivery.ids])
            else:
                self._starting.put(delivery)
        before = time.monotonic() - SLOW
        for entry in self._undecoded.drain():
            if entry.since < before:
                self._set_aside(entry)
            else:
                self._undecoded.put(entry)
        for entry in self.batcher.withdraw(SLOW):
            self._set_aside(entry)

    def _elsewhere(self, delivery: Delivery) -> bool:
        """Whether another worker is idle and would take it."""
        model = Lane.parse(delivery.lane).model
        return bool(self._idle) if model == ANY else model in self._idle

    def _set_aside(self, entry: Entry) -> None:
        """Have the finisher return or pause it, which may have to wait for Redis."""
        entry.returned = entry.attempt is not None and self._elsewhere(entry.delivery)
        entry.aside = not entry.returned
        self._ending.put(entry)

    # -- the starter

    def _begin(self, deliveries: list[Delivery]) -> None:
        self._opened(deliveries)
        suspects: list[Entry] = []
        for delivery, started in zip(deliveries, self._begun(deliveries), strict=True):
            alone = [Entry(delivery, name) for name in started.suspects]
            suspects += alone
            self._dispatch(delivery, [Entry(delivery, found.id, found) for found in started.attempts], len(alone))
        for entry in suspects:
            self._run_alone(entry)

    def _opened(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            self._open += len(deliveries)

    def _begun(self, deliveries: Sequence[Delivery]) -> list[Started]:
        """What each of these may run; one that cannot be begun must not affect the others."""
        held = [(delivery.ids, delivery.tag) for delivery in deliveries]
        try:
            return self.records.begin_all(held, self.owner.boot, self.model.name)
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: it is given back, whatever it was
            if len(deliveries) == 1:
                deliveries[0].fault = error
                return [Started()]
        return [started for delivery in deliveries for started in self._begun([delivery])]

    def _dispatch(self, delivery: Delivery, entries: Sequence[Entry], later: int = 0) -> None:
        """Send the entries of a delivery on; ``later`` more follow."""
        if not entries and not later:
            entries = [Entry(delivery)]
        delivery.unfinished = len(entries) + later
        for entry in entries:
            self._send(entry)

    def _send(self, entry: Entry) -> None:
        if entry.attempt is None:
            self._ending.put(entry)
            return
        with self._changed:
            self._active += 1
        entry.counted, entry.since = True, time.monotonic()
        self._undecoded.put(entry)

    def _run_alone(self, entry: Entry) -> None:
        """Run a request that a worker has died with while nothing else runs here; return it if that cannot be soon."""
        with self._changed:
            while self._active and not (self.slow and self._elsewhere(entry.delivery)):
                self._changed.wait(SLOW / 2)
            entry.returned = bool(self._active)
        if not entry.returned:
            self._begin_entry(entry, alone=True)
        self._send(entry)
        with self._changed:
            self._changed.wait_for(lambda: entry.returned or not self._active)

    def _begin_entry(self, entry: Entry, *, alone: bool = False) -> None:
        """Begin one request; it has no attempt if it may not run."""
        entry.attempt, delivery = None, entry.delivery
        try:
            begun = self.records.begin([entry.id], self.owner.boot, delivery.tag, self.model.name, alone=alone)
        except Exception as error:  # noqa: BLE001 - as in _begun
            delivery.fault = error
        else:
            entry.attempt = next(iter(begun.attempts), None)

    # -- the decoders

    def _decode(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._resume([entry])
            if (attempt := entry.attempt) is None:
                self._ending.put(entry)
                continue
            entry.decode_began = time.monotonic()
            try:
                with self._decoding:
                    image = self.records.payloads.get(attempt.payload) if attempt.payload else attempt.image
                    if image is None:
                        raise PayloadLost("the stored image is gone")
                    entry.pixels = of_model(self.model.decode, image)
            except ModelError as error:
                entry.error = error
            image, entry.attempt = b"", replace(attempt, image=b"")  # it may be large, and is not needed any more
            entry.decode_seconds = time.monotonic() - entry.decode_began
            self._submit(entry)

    def _submit(self, entry: Entry) -> None:
        try:
            if entry.error is None:
                self.batcher.submit(entry, self._ending.put, urgency(entry.delivery.lane))
                return
        except ModelError as error:
            entry.error = error
        self._ending.put(entry)

    # -- the inference threads

    def _infer(self, entries: Sequence[Entry]) -> Sequence[Any]:
        """The model's answers; None for entries that were paused and may not run any more."""
        self._resume(entries)
        live = [entry for entry in entries if entry.attempt is not None]
        values = self._infer_pixels([entry.pixels for entry in live]) if live else []
        if len(live) == len(entries):
            return values  # the batcher checks how many
        left = iter(values)
        return [None if entry.attempt is None else next(left) for entry in entries]

    def _resume(self, entries: Iterable[Entry]) -> None:
        """Begin paused requests again."""
        for entry in entries:
            if entry.paused:
                entry.paused = False
                self._begin_entry(entry)

    # -- the finisher

    def _end(self, entries: list[Entry]) -> None:
        aside = [entry for entry in entries if entry.aside]
        ended = [entry for entry in entries if not entry.aside]
        try:
            self._finisher.give_back([entry for entry in ended if entry.returned])
            self._finisher.commit([entry for entry in ended if not entry.returned])
            self._finisher.pause(aside)
        except Exception as error:  # noqa: BLE001 - as in _begun; committed requests do not run again
            for entry in entries:
                entry.delivery.fault = error
            aside, ended = [], entries
        for entry in aside:
            self._queue_again(entry)
        with self._changed:
            self._active -= sum(entry.counted for entry in ended)
            self._changed.notify_all()
        for entry in ended:
            self._leave(entry)

    def _queue_again(self, entry: Entry) -> None:
        """Put a paused request into its stage again."""
        entry.aside, entry.paused = False, True
        if entry.pixels is None:
            self._undecoded.put(entry)
        else:
            self._submit(entry)

    def _leave(self, entry: Entry) -> None:
        """An entry has ended, and with the last one its delivery."""
        delivery = entry.delivery
        if self._trace is None:
            entry.forget()
        elif entry.attempt is not None:
            delivery.entries.append(entry)
        self.owner.ended(delivery.tag)
        delivery.unfinished -= 1
        if delivery.unfinished:
            return
        if self._trace is not None:
            self._trace(delivery)
            for traced in delivery.entries:
                traced.forget()
        delivery.ended(delivery)
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
