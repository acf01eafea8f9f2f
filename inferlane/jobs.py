"""Handles: a request is a :class:`Job`, many submitted together a :class:`Batch`; each also to be awaited.

A handle is an id and the client it belongs to. It costs nothing to make, outlives timeouts, and can be made again from
the id alone in another process: ``client.job(request_id)``.
"""

import json
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic

from inferlane import events
from inferlane.answers import BatchSnapshot, Outcome, Result, Snapshot, item_outcome
from inferlane.connection import AsyncConnection, Call, Connection, SyncConnection, operation, stream
from inferlane.errors import UnexpectedAnswer
from inferlane.events import Event
from inferlane.exchange import document_of, exchange
from inferlane.operations import BATCH, REQUEST, Kind, S, about, finished, look


@dataclass(frozen=True)
class _Handle(Generic[S]):
    """The operations of a request or a batch."""

    connection: Connection = field(repr=False, compare=False)
    id: str
    kind: ClassVar[Kind[Any]]

    @operation
    async def status(self, *, wait: int = 0) -> S:
        """Its current status; with ``wait``, once it has ended or that many seconds have passed."""
        return await look(self.connection, self.kind, self.id, self.connection.limits(), wait)

    @stream
    def events(self, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """Its events, past and future, up to its end; the data of the last event is the whole resource.

        A request has its history; a batch has an event whenever more items have ended. A broken connection is opened
        again where it was. ``timeout`` is kept to about 15 seconds.

        Raises:
            Timeout: it has not ended within ``timeout`` seconds.
            UnexpectedAnswer, Unavailable: events do not arrive; :meth:`status` may still answer.
        """
        return events.follow(self.connection, self.kind, self.id, self.connection.limits(timeout))

    @operation
    async def cancel(self) -> S:
        """Cancel what has not ended: a queued request never runs, a running one's answer is discarded.

        Raises:
            AlreadyFinished: the request has ended.
        """
        call = Call("POST", self.kind.path(self.id, "/cancel"))
        with about(self.kind, self.id):
            answer = await exchange(self.connection, lambda: call, self.connection.limits())
            canceled: S = self.kind.read(document_of(answer))
            return canceled


class _Request(_Handle[Snapshot]):
    kind = REQUEST

    @operation
    async def result(self, timeout: float | None = None) -> Result:
        """The answer, waited for up to ``timeout`` seconds.

        Raises:
            Timeout: it has not ended by then; ask again.
            RequestEnded, InvalidImage: it ended without an answer.
        """
        return (await finished(self.connection, REQUEST, self.id, self.connection.limits(timeout))).result()


@dataclass(frozen=True)
class _Batch(_Handle[BatchSnapshot]):
    kind = BATCH
    sources: Sequence[Any] = field(default=(), repr=False)

    @operation
    async def results(self, timeout: float | None = None) -> list[Outcome]:
        """How every item ended, in the order sent; waits for the last of them.

        Raises:
            Timeout: some have not ended within ``timeout`` seconds.
        """
        await finished(self.connection, BATCH, self.id, self.connection.limits(timeout))
        return await self._outcomes()

    async def _outcomes(self) -> list[Outcome]:
        """The outcomes of the items that have ended, in the order sent."""
        call = Call("GET", BATCH.path(self.id, "/results"))
        answer = await exchange(self.connection, lambda: call, self.connection.limits())
        try:
            items = [json.loads(line) for line in answer.text.splitlines() if line]
        except ValueError:
            raise UnexpectedAnswer(f"{answer.url} did not answer with lines of JSON") from None
        return [ended for item in items if (ended := item_outcome(item, self.sources))]

    outcomes = operation(_outcomes)


class Job(_Request):
    """One request of a :class:`~inferlane.Client`."""

    connection: SyncConnection


class AsyncJob(_Request):
    """One request of an :class:`~inferlane.AsyncClient`; awaiting it gives its result."""

    connection: AsyncConnection

    def __await__(self) -> Generator[Any, Any, Result]:
        return self.result().__await__()


class Batch(_Batch):
    """Many requests submitted together; ``sources`` are the images, where this process submitted them."""

    connection: SyncConnection


class AsyncBatch(_Batch):
    """As :class:`Batch`; awaiting it gives the outcomes."""

    connection: AsyncConnection

    def __await__(self) -> Generator[Any, Any, list[Outcome]]:
        return self.results().__await__()
