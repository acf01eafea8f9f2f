"""A delivery in the pipeline, and each of its requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import TransientFailure
from tasks.protocol.requests import Attempt
from worker_models.batcher import BatchItem


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """A message in this worker's hands.

    Attributes:
        ids: its requests.
        tag: under which this worker holds it.
        retries: how many retries its requests have had.
        last_try: whether a transient failure is final.
        ended: called once, with the delivery, when its last request has left the pipeline.
        unfinished: how many have not.
        failures: the attempts to be retried, and why.
        fault: what kept the delivery from being performed; no request's outcome.
        taken: when it was taken, by the monotonic clock.
        entries: the requests that were run, kept only for a trace.
    """

    ids: Sequence[str]
    tag: str
    lane: str
    retries: int = 0
    last_try: bool = False
    ended: Callable[[Delivery], object] = lambda _: None
    unfinished: int = 0
    failures: list[tuple[Attempt, Exception]] = field(default_factory=list)
    fault: Exception | None = None
    taken: float = field(default_factory=time.monotonic)
    entries: list[Entry] = field(default_factory=list)

    def check(self) -> None:
        """Raise the fault, or TransientFailure if some requests are to be retried."""
        if self.fault is not None:
            raise self.fault
        if self.failures:
            _, first = self.failures[0]
            raise TransientFailure(f"{len(self.failures)} of {len(self.ids)} requests failed for now: {first}")


@dataclass(slots=True, eq=False)
class Entry(BatchItem):
    """One request of a delivery in the pipeline.

    Attributes:
        id: of the request; empty for a delivery that has none to run.
        attempt: None when there is nothing to run.
        counted: whether it counts as in flight.
        pixels: the decoded image.
        decode_began: when decoding began, by the monotonic clock.
        returned: whether it goes back to its lane because it has not run.
        aside: whether it is behind a slow call and is to be paused.
        paused: whether it is queued again while it waits here, and has to begin once more.
    """

    delivery: Delivery
    id: str = ""
    attempt: Attempt | None = None
    counted: bool = False
    pixels: Any = None
    decode_began: float = 0.0
    decode_seconds: float = 0.0
    returned: bool = False
    aside: bool = False
    paused: bool = False

    def forget(self) -> None:
        """Drop the image and the error, whose frames refer to this: the collector would free them much later."""
        self.value = self.error = self.pixels = None
