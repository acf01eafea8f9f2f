"""Handles: a request is a :class:`Job`, many submitted together a :class:`Batch`, and there are both to await.

A handle is an id and the client it belongs to. It costs nothing to make, outlives timeouts, and can be made again from
the id alone in another process: ``client.job(request_id)``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferlane import events, operations
from inferlane.answers import BatchSnapshot, Outcome, Result, Snapshot, item_outcome
from inferlane.events import Event
from inferlane.flow import Flow, Stream
from inferlane.operations import BATCH, REQUEST
from inferlane.transport import AsyncTransport, BaseTransport, SyncTransport, operation, stream


class _Request:
    """The operations of one request."""

    transport: BaseTransport
    id: str

    @operation
    def status(self, *, wait: int = 0) -> Flow[Snapshot]:
        """The request as it is now; with ``wait``, once it has ended or that many seconds have passed."""
        return operations.look(REQUEST, self.id, self.transport.limits(), wait)

    @operation
    def result(self, timeout: float | None = None) -> Flow[Result]:
        """The answer, waited for up to ``timeout`` seconds.

        Raises:
            Timeout: it has not ended by then; ask again.
            RequestEnded, InvalidImage: it ended without an answer.
        """
        return operations.result(self.id, self.transport.limits(timeout))

    @stream
    def events(self, timeout: float | None = None) -> Stream[Event]:
        """Its history and what happens next, up to its end; the data of the last event is the whole request.

        A broken connection is opened again where it was. ``timeout`` is kept to about 15 seconds.

        Raises:
            Timeout: it has not ended within ``timeout`` seconds.
            UnexpectedAnswer, Unavailable: no events can be had; :meth:`status` may still answer.
        """
        return events.follow(REQUEST, self.id, self.transport.limits(timeout))

    @operation
    def cancel(self) -> Flow[Snapshot]:
        """Cancel it: a queued request never runs, a running one's answer is discarded.

        Raises:
            AlreadyFinished: it has ended.
        """
        return operations.cancel(REQUEST, self.id, self.transport.limits())


class _Batch:
    """The operations of a batch."""

    transport: BaseTransport
    id: str
    sources: Sequence[Any]

    @operation
    def status(self, *, wait: int = 0) -> Flow[BatchSnapshot]:
        """How many items are in which state."""
        return operations.look(BATCH, self.id, self.transport.limits(), wait)

    @operation
    def results(self, timeout: float | None = None) -> Flow[list[Outcome]]:
        """How every item ended, in the order sent; waits for the last of them.

        Raises:
            Timeout: some have not ended within ``timeout`` seconds.
        """
        yield from operations.finished(BATCH, self.id, self.transport.limits(timeout))
        return (yield from self._outcomes())

    @operation
    def outcomes(self) -> Flow[list[Outcome]]:
        """How the items ended that have, in the order sent."""
        return self._outcomes()

    def _outcomes(self) -> Flow[list[Outcome]]:
        found = yield from operations.items(self.id, self.transport.limits())
        return [ended for item in found if (ended := item_outcome(item, self.sources))]

    @stream
    def events(self, timeout: float | None = None) -> Stream[Event]:
        """An event whenever more items have ended, with the batch as its data; otherwise as :meth:`Job.events`."""
        return events.follow(BATCH, self.id, self.transport.limits(timeout))

    @operation
    def cancel(self) -> Flow[BatchSnapshot]:
        """Cancel every item that has not ended."""
        return operations.cancel(BATCH, self.id, self.transport.limits())


@dataclass(frozen=True)
class Job(_Request):
    """One request of a :class:`~inferlane.Client`."""

    transport: SyncTransport = field(repr=False, compare=False)
    id: str


@dataclass(frozen=True)
class AsyncJob(_Request):
    """One request of an :class:`~inferlane.AsyncClient`; awaiting it gives its result."""

    transport: AsyncTransport = field(repr=False, compare=False)
    id: str

    def __await__(self) -> Generator[Any, Any, Result]:
        return self.result().__await__()


@dataclass(frozen=True)
class Batch(_Batch):
    """Many requests submitted together; ``sources`` are the images, where this process submitted them."""

    transport: SyncTransport = field(repr=False, compare=False)
    id: str
    sources: Sequence[Any] = field(default=(), repr=False)


@dataclass(frozen=True)
class AsyncBatch(_Batch):
    """As :class:`Batch`; awaiting it gives the outcomes."""

    transport: AsyncTransport = field(repr=False, compare=False)
    id: str
    sources: Sequence[Any] = field(default=(), repr=False)

    def __await__(self) -> Generator[Any, Any, list[Outcome]]:
        return self.results().__await__()
