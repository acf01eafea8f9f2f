"""Handles of what has been handed in: a request as :class:`Job`, many as :class:`Batch`, and the same to await.

A handle is an id and the client it belongs to. It costs nothing to make, outlives timeouts, and can be made again from
the id alone in another process: ``client.job(request_id)``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from inferlane import batches, events, operations
from inferlane.answers import Outcome, Result, Snapshot, item_outcome
from inferlane.batches import BatchSnapshot

if TYPE_CHECKING:
    from inferlane.events import Event, Listening
    from inferlane.exchange import Limits
    from inferlane.flow import Flow

T = TypeVar("T")


class Runs(Protocol):
    """The part of a :class:`~inferlane.Client` that handles need."""

    def limits(self, timeout: float | None = None) -> Limits:
        """The limits of a call that begins now."""

    def run(self, steps: Flow[T]) -> T:
        """Run a flow."""

    def listen(self, steps: Listening) -> Generator[Event, None, None]:
        """The events of a stream."""


class RunsAsync(Protocol):
    """The part of an :class:`~inferlane.AsyncClient` that handles need."""

    def limits(self, timeout: float | None = None) -> Limits:
        """The limits of a call that begins now."""

    async def run(self, steps: Flow[T]) -> T:
        """Run a flow."""

    def listen(self, steps: Listening) -> AsyncGenerator[Event, None]:
        """The events of a stream."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request of a :class:`~inferlane.Client`."""

    client: Runs = field(repr=False, compare=False)
    id: str

    def status(self, *, wait: int = 0) -> Snapshot:
        """The request as it is now; with ``wait``, once it has ended or that many seconds have passed."""
        return self.client.run(operations.look(self.id, self.client.limits(), wait))

    def result(self, timeout: float | None = None) -> Result:
        """The answer, waited for up to ``timeout`` seconds.

        Raises:
            Timeout: it has not ended by then; ask again.
            RequestEnded, InvalidImage: it ended without an answer.
        """
        return self.client.run(operations.result(self.id, self.client.limits(timeout)))

    def events(self, timeout: float | None = None) -> Generator[Event, None, None]:
        """What has happened to it and what happens, up to its end; the data of the last event is the whole request.

        A connection that breaks is opened again where it was. ``timeout`` is kept to about 15 seconds.

        Raises:
            Timeout: it has not ended within ``timeout`` seconds.
            UnexpectedAnswer, Unavailable: no events can be had; :meth:`status` may still tell.
        """
        return self.client.listen(events.of_request(self.id, self.client.limits(timeout)))

    def cancel(self) -> Snapshot:
        """Cancel it: a queued request never runs, a running one's answer is discarded.

        Raises:
            AlreadyFinished: it has ended.
        """
        return self.client.run(operations.cancel(self.id, self.client.limits()))


@dataclass(frozen=True, slots=True)
class AsyncJob:
    """One request of an :class:`~inferlane.AsyncClient`; awaiting it gives its result."""

    client: RunsAsync = field(repr=False, compare=False)
    id: str

    async def status(self, *, wait: int = 0) -> Snapshot:
        """As :meth:`Job.status`."""
        return await self.client.run(operations.look(self.id, self.client.limits(), wait))

    async def result(self, timeout: float | None = None) -> Result:  # noqa: ASYNC109 - ends with the job handle kept
        """As :meth:`Job.result`."""
        return await self.client.run(operations.result(self.id, self.client.limits(timeout)))

    def events(self, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """As :meth:`Job.events`."""
        return self.client.listen(events.of_request(self.id, self.client.limits(timeout)))

    async def cancel(self) -> Snapshot:
        """As :meth:`Job.cancel`."""
        return await self.client.run(operations.cancel(self.id, self.client.limits()))

    def __await__(self) -> Generator[Any, Any, Result]:
        return self.result().__await__()


@dataclass(frozen=True, slots=True)
class Batch:
    """Many requests handed in together; ``sources`` are the images given, where this process gave them."""

    client: Runs = field(repr=False, compare=False)
    id: str
    sources: Sequence[Any] = field(default=(), repr=False)

    def status(self, *, wait: int = 0) -> BatchSnapshot:
        """How many items are in which state."""
        return self.client.run(batches.look(self.id, self.client.limits(), wait))

    def results(self, timeout: float | None = None) -> list[Outcome]:
        """How every item ended, in the order sent; waits for the last of them.

        Raises:
            Timeout: some have not ended within ``timeout`` seconds.
        """
        self.client.run(batches.finished(self.id, self.client.limits(timeout)))
        return self.outcomes()

    def outcomes(self) -> list[Outcome]:
        """How the items ended that have, in the order sent."""
        found = self.client.run(batches.items(self.id, self.client.limits()))
        return [ended for item in found if (ended := item_outcome(item, self.sources))]

    def events(self, timeout: float | None = None) -> Generator[Event, None, None]:
        """An event whenever more items have ended, with the batch as its data; otherwise as :meth:`Job.events`."""
        return self.client.listen(events.of_batch(self.id, self.client.limits(timeout)))

    def cancel(self) -> BatchSnapshot:
        """Cancel every item that has not ended."""
        return self.client.run(batches.cancel(self.id, self.client.limits()))


@dataclass(frozen=True, slots=True)
class AsyncBatch:
    """As :class:`Batch`; awaiting it gives the outcomes."""

    client: RunsAsync = field(repr=False, compare=False)
    id: str
    sources: Sequence[Any] = field(default=(), repr=False)

    async def status(self, *, wait: int = 0) -> BatchSnapshot:
        """As :meth:`Batch.status`."""
        return await self.client.run(batches.look(self.id, self.client.limits(), wait))

    async def results(self, timeout: float | None = None) -> list[Outcome]:  # noqa: ASYNC109 - the batch goes on
        """As :meth:`Batch.results`."""
        await self.client.run(batches.finished(self.id, self.client.limits(timeout)))
        return await self.outcomes()

    async def outcomes(self) -> list[Outcome]:
        """As :meth:`Batch.outcomes`."""
        found = await self.client.run(batches.items(self.id, self.client.limits()))
        return [ended for item in found if (ended := item_outcome(item, self.sources))]

    def events(self, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """As :meth:`Batch.events`."""
        return self.client.listen(events.of_batch(self.id, self.client.limits(timeout)))

    async def cancel(self) -> BatchSnapshot:
        """As :meth:`Batch.cancel`."""
        return await self.client.run(batches.cancel(self.id, self.client.limits()))

    def __await__(self) -> Generator[Any, Any, list[Outcome]]:
        return self.results().__await__()
