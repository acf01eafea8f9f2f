"""Operations that several methods of clients and handles share, as coroutines over a connection.

``POST /inference`` waits for the answer. When that takes longer than the API lets one call wait, the client polls the
request with ``Prefer: wait``. A broken connection, a restarting API or a full lane delay it
and do not end it.
"""

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from inferlane.answers import BatchSnapshot, Result, Snapshot
from inferlane.connection import Call, Connection
from inferlane.errors import ClientError, Gone, NotFound, Timeout, UnexpectedAnswer
from inferlane.exchange import document_of, exchange
from inferlane.images import Source
from inferlane.retries import CallLimits

LONGEST_WAIT = 20  # seconds one call asks the API to wait; proxies often cut silent connections after 30 or 60


def new_id() -> str:
    """A unique id."""
    return uuid.uuid4().hex


class Options(TypedDict, total=False):
    """The parameters of a request besides the model.

    Attributes:
        priority: high, normal or low.
        top_k: how many classes to name.
        deadline: seconds from now after which the answer is not wanted; the request then ends ``expired``.
    """

    priority: str
    top_k: int
    deadline: float | None


class Parameters(Options, total=False):
    """The parameters of a request; ``model`` "any" takes the first model that is free."""

    model: str


class _Ending(Protocol):
    @property
    def ended(self) -> bool: ...


S = TypeVar("S", bound=_Ending)


@dataclass(frozen=True, slots=True)
class Kind(Generic[S]):
    """A kind of resource: its name, where the API keeps it, and how its document is read."""

    name: str
    root: str
    of: Callable[[Mapping[str, Any]], S]

    def path(self, resource_id: str, suffix: str = "") -> str:
        """Where the API keeps the resource."""
        return f"{self.root}/{quote(resource_id, safe='')}{suffix}"

    def read(self, document: Mapping[str, Any]) -> S:
        """The resource in a document; raises UnexpectedAnswer if it has none."""
        try:
            return self.of(document)
        except (KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"the answer is no {self.name} resource: {error!r}") from None


REQUEST = Kind("request", "/inference", Snapshot.of)
BATCH = Kind("batch", "/batch_inference", BatchSnapshot.of)


def parameters(
    model: str = "any", priority: str = "normal", top_k: int = 5, deadline: float | None = None
) -> dict[str, str]:
    """The parameters of a request or a batch as the API names them; ``deadline`` is seconds from now."""
    found = {"model_type": model, "priority": priority, "top_k": str(top_k)}
    if deadline is not None:
        found["deadline"] = f"{max(0.001, deadline):.3f}"
    return found


def prefer(wait: int) -> dict[str, str]:
    """The header that waits so many seconds; 0 does not wait."""
    return {"Prefer": f"wait={wait}" if wait else "respond-async"}


@contextmanager
def about(kind: Kind[Any], resource_id: str) -> Iterator[None]:
    """Add the request to the errors that are raised inside."""
    try:
        yield
    except ClientError as error:
        if kind is REQUEST:
            error.request_id = error.request_id or resource_id
        raise


Post = Callable[[int], Call]


async def load(connection: Connection, source: Source, request_id: str, **params: Unpack[Parameters]) -> Post:
    """Read ``source``; returns a function that builds its ``POST /inference``, waiting so many seconds.

    The deadline counts from the reading of the image: a later attempt has the rest of it.

    Raises:
        ImageUnreadable: ``source`` cannot be read.
    """
    (upload,) = await connection.load([source])
    made, deadline = time.monotonic(), params.get("deadline")

    def post(wait: int) -> Call:
        left = None if deadline is None else made + deadline - time.monotonic()
        query = parameters(**(params | {"deadline": left})) | {"request_id": request_id}
        headers = {"Content-Type": "application/octet-stream"} | prefer(wait)
        return Call("POST", REQUEST.root, {"params": query, "headers": headers, "content": upload.data}, wait=wait)

    return post


async def predict(connection: Connection, post: Post, request_id: str, limits: CallLimits) -> Result:
    """Submit and wait for the answer; submit again if the API has lost the request.

    Raises:
        Timeout: it has not ended by the end of ``limits``.
        RequestEnded, InvalidImage: it ended without an answer.
    """
    with about(REQUEST, request_id):
        while True:
            answer = await exchange(connection, lambda: post(wait_of(limits)), limits)
            snapshot = REQUEST.read(document_of(answer))
            if snapshot.ended:
                return snapshot.result()
            try:
                return (await finished(connection, REQUEST, request_id, limits)).result()
            except NotFound as error:
                if isinstance(error, Gone):
                    raise
                await connection.pause(limits.retries.pause(0))


async def look(connection: Connection, kind: Kind[S], resource_id: str, limits: CallLimits, wait: int = 0) -> S:
    """A resource as it is; with ``wait``, once it has ended or that many seconds have passed."""
    call = Call("GET", kind.path(resource_id), {"headers": prefer(wait) if wait else {}}, wait=wait)
    with about(kind, resource_id):
        return kind.read(document_of(await exchange(connection, lambda: call, limits)))


async def finished(connection: Connection, kind: Kind[S], resource_id: str, limits: CallLimits) -> S:
    """A resource once it has ended; raises Timeout if it has not ended by the end of ``limits``."""
    attempt = 0
    while limits.left() > 0:
        began, wait = time.monotonic(), wait_of(limits)
        found = await look(connection, kind, resource_id, limits, wait)
        if found.ended:
            return found
        if time.monotonic() - began < wait / 2:  # the API had no place to wait: do not ask in a tight loop
            await connection.pause(min(limits.left(), limits.retries.pause(attempt)))
            attempt += 1
    with about(kind, resource_id):
        raise Timeout(f"{kind.name} {resource_id} has not ended in time; it goes on")


def wait_of(limits: CallLimits) -> int:
    """Whole seconds to ask the API to wait."""
    return max(1, math.ceil(min(limits.left(), LONGEST_WAIT)))
