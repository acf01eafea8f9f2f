"""What can be asked of the API, each as a flow that both clients run.

``POST /inference`` is asked to wait for the answer. When that takes longer than the API lets one call wait, the flow
goes on by looking at the request with ``Prefer: wait``. A connection that breaks, an API that restarts or a lane that
is full delay it and do not end it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from inferlane import images
from inferlane.answers import Result, Snapshot
from inferlane.errors import ClientError, Gone, NotFound, Timeout, UnexpectedAnswer
from inferlane.exchange import Limits, document_of, exchange
from inferlane.flow import Call, Flow, Pause
from inferlane.images import Source, Upload


class _Ending(Protocol):
    @property
    def ended(self) -> bool: ...


ENDING = TypeVar("ENDING", bound=_Ending)
LONGEST_WAIT = 20  # seconds one call asks the API to wait; proxies often cut silent connections after 30 or 60


def new_id() -> str:
    """An id nobody else has."""
    return uuid.uuid4().hex


class Options(TypedDict, total=False):
    """What may be asked of an image, besides the model.

    Attributes:
        priority: high, normal or low.
        top_k: how many classes to name.
        deadline: seconds from now after which the answer is not wanted; the request then ends ``expired``.
    """

    priority: str
    top_k: int
    deadline: float | None


class Wishes(Options, total=False):
    """What may be asked of each of many images; ``model`` "any" takes the first model that is free."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An image and what is wanted of it.

    Attributes:
        deadline: seconds after ``made`` (``time.monotonic``) from which on the answer is not wanted; a later attempt to
            hand in asks for what is left of them.
    """

    upload: Upload
    model: str = "any"
    priority: str = "normal"
    top_k: int = 5
    deadline: float | None = None
    request_id: str = field(default_factory=new_id)
    made: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, source: Source, request_id: str | None = None, **wishes: Unpack[Wishes]) -> Order:
        """The order for ``source``, read now; the deadline is counted from now.

        Raises:
            ImageUnreadable: ``source`` cannot be read.
        """
        return cls(upload=images.read(source), request_id=request_id or new_id(), **wishes)

    def call(self, wait: int) -> Call:
        """``POST /inference``; ``wait`` 0 does not wait."""
        left = None if self.deadline is None else self.made + self.deadline - time.monotonic()
        params = parameters(self.model, self.priority, self.top_k, left) | {"request_id": self.request_id}
        headers = {"Content-Type": "application/octet-stream", "Prefer": prefer(wait)}
        return Call(
            method="POST", path="/inference", params=params, headers=headers, content=self.upload.data, wait=wait
        )


def parameters(
    model: str = "any", priority: str = "normal", top_k: int = 5, deadline: float | None = None
) -> dict[str, str]:
    """The parameters of a request or a batch as the API names them; ``deadline`` is seconds from now."""
    found = {"model_type": model, "priority": priority, "top_k": str(top_k)}
    if deadline is not None:
        found["deadline"] = f"{max(0.001, deadline):.3f}"
    return found


def prefer(wait: int) -> str:
    """The value of ``Prefer`` that waits so many seconds; 0 does not wait."""
    return f"wait={wait}" if wait else "respond-async"


def submit(order: Order, limits: Limits) -> Flow[Snapshot]:
    """Hand in, do not wait."""
    with about(order.request_id):
        answer = yield from exchange(lambda: order.call(0), limits)
        return snapshot_of(document_of(answer))


def predict(order: Order, limits: Limits) -> Flow[Result]:
    """Hand in and wait for the answer; handed in again if the API has lost the request.

    Raises:
        Timeout: it has not ended by the end of ``limits``.
        RequestEnded, InvalidImage: it ended without an answer.
    """
    with about(order.request_id):
        while True:
            answer = yield from exchange(lambda: order.call(wait_of(limits)), limits)
            snapshot = snapshot_of(document_of(answer))
            if snapshot.ended:
                return snapshot.result()
            try:
                return (yield from result(order.request_id, limits))
            except NotFound as error:
                if isinstance(error, Gone):
                    raise
                yield Pause(limits.retries.pause(0))


def result(request_id: str, limits: Limits) -> Flow[Result]:
    """The answer of a request, once there is one; raises as :func:`predict` does."""
    snapshot = yield from finished(request_id, limits)
    return snapshot.result()


def look(request_id: str, limits: Limits, wait: int = 0) -> Flow[Snapshot]:
    """The request as it is; with ``wait``, once it has ended or that many seconds have passed."""
    with about(request_id):
        headers = {"Prefer": prefer(wait)} if wait else {}
        call = Call(method="GET", path=path_of(request_id), headers=headers, wait=wait)
        answer = yield from exchange(lambda: call, limits)
        return snapshot_of(document_of(answer))


def finished(request_id: str, limits: Limits) -> Flow[Snapshot]:
    """The request once it has ended.

    Raises:
        Timeout: it has not ended by the end of ``limits``.
    """
    with about(request_id):
        return (yield from until_ended(partial(look, request_id, limits), limits, f"request {request_id}"))


def until_ended(look_once: Callable[[int], Flow[ENDING]], limits: Limits, name: str) -> Flow[ENDING]:
    """What ``look_once(wait)`` returns as soon as that has ended.

    Raises:
        Timeout: it has not by the end of ``limits``.
    """
    attempt = 0
    while limits.left() > 0:
        began, wait = time.monotonic(), wait_of(limits)
        found = yield from look_once(wait)
        if found.ended:
            return found
        if time.monotonic() - began < wait / 2:  # the API had no place to wait: do not ask in a tight loop
            yield Pause(min(limits.left(), limits.retries.pause(attempt)))
            attempt += 1
    raise Timeout(f"{name} has not ended in time; it goes on")


def wait_of(limits: Limits) -> int:
    """Whole seconds to ask the API to wait."""
    return max(1, math.ceil(min(limits.left(), LONGEST_WAIT)))


def cancel(request_id: str, limits: Limits) -> Flow[Snapshot]:
    """Cancel; the state afterwards is canceled, or still running until its worker notices."""
    with about(request_id):
        call = Call(method="POST", path=f"{path_of(request_id)}/cancel")
        answer = yield from exchange(lambda: call, limits)
        return snapshot_of(document_of(answer))


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the requests asked for, newest first; ``cursor`` asks for those after them, None when there are none."""

    snapshots: Sequence[Snapshot]
    cursor: str | None


def page(asked: Mapping[str, str], cursor: str | None, limits: Limits) -> Flow[Page]:
    """One page of requests; it may be empty and still not the last."""
    params = dict(asked) | ({"cursor": cursor} if cursor else {})
    found = yield from document("/inference", limits, params=params)
    try:
        snapshots = tuple(snapshot_of(item) for item in found["requests"])
    except (KeyError, TypeError) as error:
        raise UnexpectedAnswer(f"the answer is no page of requests: {error!r}") from None
    return Page(snapshots, found.get("next_cursor"))


def asked_for(status: str | None, model_type: str | None, page_size: int) -> dict[str, str]:
    """The query of :func:`page`."""
    given = {"status": status, "model_type": model_type, "limit": str(page_size)}
    return {name: value for name, value in given.items() if value is not None}


def path_of(request_id: str) -> str:
    """Where the API keeps a request."""
    return f"/inference/{quote(request_id, safe='')}"


def document(
    path: str, limits: Limits, *, method: str = "GET", accept: Collection[int] = (),
    params: Mapping[str, str] | None = None, body: Any = None,
) -> Flow[dict[str, Any]]:  # fmt: skip
    """The JSON object at ``path``."""
    call = Call(method=method, path=path, params=params or {}, json=body)
    answer = yield from exchange(lambda: call, limits, accept)
    return document_of(answer) if answer.content else {}


def snapshot_of(document: Mapping[str, Any]) -> Snapshot:
    """The request in a document.

    Raises:
        UnexpectedAnswer: it is not a request resource.
    """
    try:
        return Snapshot.of(document)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the answer is no request resource: {error!r}") from None


@contextmanager
def about(request_id: str) -> Iterator[None]:
    """Errors raised inside say which request they are about."""
    try:
        yield
    except ClientError as error:
        error.request_id = error.request_id or request_id
        raise
