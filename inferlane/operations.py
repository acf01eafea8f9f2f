"""What can be asked of the API, each as a flow that both clients run.

``POST /inference`` is asked to wait for the answer. When that takes longer than the API lets one call wait, the flow
goes on by looking at the request with ``Prefer: wait``. A broken connection, a restarting API or a full lane delay it
and do not end it.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from inferlane.answers import BatchSnapshot, Result, Snapshot
from inferlane.errors import ClientError, Gone, NotFound, Timeout, UnexpectedAnswer
from inferlane.exchange import CallLimits, document_of, exchange
from inferlane.flow import Call, Flow, Item, Load, Pause, Stream
from inferlane.images import Source, Upload

LONGEST_WAIT = 20  # seconds one call asks the API to wait; proxies often cut silent connections after 30 or 60
MAX_CUSTOM_ID = 200  # characters


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
        """The resource in a document.

        Raises:
            UnexpectedAnswer: it has none.
        """
        try:
            return self.of(document)
        except (KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"the answer is no {self.name} resource: {error!r}") from None


REQUEST = Kind("request", "/inference", Snapshot.of)
BATCH = Kind("batch", "/batch_inference", BatchSnapshot.of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """An image with its parameters.

    Attributes:
        deadline: seconds after ``made`` (``time.monotonic``) after which the answer is not wanted; a later attempt to
            submit asks for what is left of them.
    """

    upload: Upload
    model: str = "any"
    priority: str = "normal"
    top_k: int = 5
    deadline: float | None = None
    request_id: str = field(default_factory=new_id)
    made: float = field(default_factory=time.monotonic)

    def call(self, wait: int) -> Call:
        """``POST /inference``; ``wait`` 0 does not wait."""
        left = None if self.deadline is None else self.made + self.deadline - time.monotonic()
        params = parameters(self.model, self.priority, self.top_k, left) | {"request_id": self.request_id}
        headers = {"Content-Type": "application/octet-stream", "Prefer": prefer(wait)}
        return Call(
            method="POST", path="/inference", params=params, headers=headers, content=self.upload.data, wait=wait
        )


def load(source: Source, request_id: str | None = None, **params: Unpack[Parameters]) -> Flow[Submission]:
    """Read ``source``; the deadline counts from when it is read.

    Raises:
        ImageUnreadable: ``source`` cannot be read.
    """
    (upload,) = yield Load([source])
    return Submission(upload=upload, request_id=request_id or new_id(), **params)


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


def submit(submission: Submission, limits: CallLimits) -> Flow[Snapshot]:
    """Submit without waiting."""
    with about(submission.request_id):
        answer = yield from exchange(lambda: submission.call(0), limits)
        return REQUEST.read(document_of(answer))


def predict(submission: Submission, limits: CallLimits) -> Flow[Result]:
    """Submit and wait for the answer; submit again if the API has lost the request.

    Raises:
        Timeout: it has not ended by the end of ``limits``.
        RequestEnded, InvalidImage: it ended without an answer.
    """
    with about(submission.request_id):
        while True:
            answer = yield from exchange(lambda: submission.call(wait_of(limits)), limits)
            snapshot = REQUEST.read(document_of(answer))
            if snapshot.ended:
                return snapshot.result()
            try:
                return (yield from result(submission.request_id, limits))
            except NotFound as error:
                if isinstance(error, Gone):
                    raise
                yield Pause(limits.retries.pause(0))


def result(request_id: str, limits: CallLimits) -> Flow[Result]:
    """The answer of a request, once there is one; raises as :func:`predict` does."""
    snapshot = yield from finished(REQUEST, request_id, limits)
    return snapshot.result()


def look(kind: Kind[S], resource_id: str, limits: CallLimits, wait: int = 0) -> Flow[S]:
    """A resource as it is; with ``wait``, once it has ended or that many seconds have passed."""
    headers = {"Prefer": prefer(wait)} if wait else {}
    call = Call(method="GET", path=kind.path(resource_id), headers=headers, wait=wait)
    return (yield from _resource(kind, resource_id, call, limits))


def cancel(kind: Kind[S], resource_id: str, limits: CallLimits) -> Flow[S]:
    """Cancel; a running request stays running until its worker notices."""
    return (
        yield from _resource(kind, resource_id, Call(method="POST", path=kind.path(resource_id, "/cancel")), limits)
    )


def _resource(kind: Kind[S], resource_id: str, call: Call, limits: CallLimits) -> Flow[S]:
    with about(resource_id if kind is REQUEST else None):
        answer = yield from exchange(lambda: call, limits)
        return kind.read(document_of(answer))


def finished(kind: Kind[S], resource_id: str, limits: CallLimits) -> Flow[S]:
    """A resource once it has ended.

    Raises:
        Timeout: it has not ended by the end of ``limits``.
    """
    attempt = 0
    while limits.left() > 0:
        began, wait = time.monotonic(), wait_of(limits)
        found = yield from look(kind, resource_id, limits, wait)
        if found.ended:
            return found
        if time.monotonic() - began < wait / 2:  # the API had no place to wait: do not ask in a tight loop
            yield Pause(min(limits.left(), limits.retries.pause(attempt)))
            attempt += 1
    with about(resource_id if kind is REQUEST else None):
        raise Timeout(f"{kind.name} {resource_id} has not ended in time; it goes on")


def wait_of(limits: CallLimits) -> int:
    """Whole seconds to ask the API to wait."""
    return max(1, math.ceil(min(limits.left(), LONGEST_WAIT)))


def submit_batch(
    sources: Sequence[Source], limits: CallLimits, model: str, **options: Unpack[Options]
) -> Flow[BatchSnapshot]:
    """Submit many images in one call, under a key that keeps a retry from running them twice.

    They must fit into memory together; for a folder of thousands, ``as_completed`` holds only a few at a time.
    """
    uploads: Sequence[Upload] = yield Load(sources)
    names = [_custom_id(item.name) or str(number) for number, item in enumerate(uploads)]
    files = [
        ("image", (name, item.data, "application/octet-stream")) for name, item in zip(names, uploads, strict=True)
    ]
    form = {**parameters(model, **options), "custom_id": names}
    headers = {"Idempotency-Key": new_id(), "Prefer": "respond-async"}
    call = Call(method="POST", path=BATCH.root, headers=headers, files=files, form=form)
    answer = yield from exchange(lambda: call, limits)
    return BATCH.read(document_of(answer))


def _custom_id(name: str) -> str:
    """As much of the end of ``name`` as the API takes, without bytes that are no text."""
    return name.encode("utf-8", "replace").decode()[-MAX_CUSTOM_ID:]


def items(batch_id: str, limits: CallLimits) -> Flow[list[dict[str, Any]]]:
    """Every item of a batch, in the order sent."""
    call = Call(method="GET", path=BATCH.path(batch_id, "/results"))
    answer = yield from exchange(lambda: call, limits)
    try:
        return [json.loads(line) for line in answer.text.splitlines() if line]
    except ValueError:
        raise UnexpectedAnswer(f"{answer.url} did not answer with lines of JSON") from None


def requests(
    limits: Callable[[], CallLimits], status: str | None, model_type: str | None, page_size: int
) -> Stream[Snapshot]:
    """The recent requests, newest first, page by page; ``limits`` makes those of each page."""
    given = {"status": status, "model_type": model_type, "limit": str(page_size)}
    params = {name: value for name, value in given.items() if value is not None}
    while True:
        page = yield from document("/inference", limits(), params=params)
        try:
            found = [REQUEST.read(item) for item in page["requests"]]
        except (KeyError, TypeError) as error:
            raise UnexpectedAnswer(f"the answer is no page of requests: {error!r}") from None
        yield from map(Item, found)
        if (cursor := page.get("next_cursor")) is None:
            return
        params["cursor"] = cursor


def document(
    path: str, limits: CallLimits, *, method: str = "GET", accept: Collection[int] = (),
    params: Mapping[str, str] | None = None, body: Any = None,
) -> Flow[dict[str, Any]]:  # fmt: skip
    """The JSON object at ``path``."""
    call = Call(method=method, path=path, params=dict(params or {}), json=body)
    answer = yield from exchange(lambda: call, limits, accept)
    return document_of(answer) if answer.content else {}


@contextmanager
def about(request_id: str | None) -> Iterator[None]:
    """Add the request to the errors that are raised inside."""
    try:
        yield
    except ClientError as error:
        error.request_id = error.request_id or request_id
        raise
