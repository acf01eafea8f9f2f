"""Many images in one call: the flows of ``/batch_inference``, and what they return.

A batch is for images that are at hand together and small enough to travel together; for a folder of thousands,
``as_completed`` is the better way, since it never holds more than a few in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack
from urllib.parse import quote

from inferlane.errors import UnexpectedAnswer
from inferlane.exchange import Limits, document_of, exchange
from inferlane.flow import Call, Flow
from inferlane.images import Upload
from inferlane.operations import Options, new_id, parameters, prefer, until_ended

MAX_CUSTOM_ID = 200  # characters


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """A batch as it was at one moment; ``counts`` says how many items are in which state, and their ``total``."""

    batch_id: str
    ended: bool
    counts: Mapping[str, int]
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> BatchSnapshot:
        """The batch in its resource.

        Raises:
            UnexpectedAnswer: it is none.
        """
        try:
            ended = document["status"] == "completed"
            return cls(str(document["batch_id"]), ended, dict(document["counts"]), document)
        except (KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"the answer is no batch: {error!r}") from None


def submit(uploads: Sequence[Upload], limits: Limits, model: str, **wishes: Unpack[Options]) -> Flow[BatchSnapshot]:
    """Hand in many images in one call, under a key that keeps a retry from running them twice."""
    names = [_custom_id(item.name) or str(number) for number, item in enumerate(uploads)]
    files = [
        ("image", (name, item.data, "application/octet-stream")) for name, item in zip(names, uploads, strict=True)
    ]
    form = {**parameters(model, **wishes), "custom_id": names}
    headers = {"Idempotency-Key": new_id(), "Prefer": "respond-async"}
    call = Call(method="POST", path="/batch_inference", headers=headers, files=files, form=form)
    answer = yield from exchange(lambda: call, limits)
    return BatchSnapshot.of(document_of(answer))


def _custom_id(name: str) -> str:
    """As much of the end of ``name`` as the API takes; a file name that is no text loses what is none."""
    return name.encode("utf-8", "replace").decode()[-MAX_CUSTOM_ID:]


def look(batch_id: str, limits: Limits, wait: int = 0) -> Flow[BatchSnapshot]:
    """How far a batch is; with ``wait``, once it has ended or that many seconds have passed."""
    headers = {"Prefer": prefer(wait)} if wait else {}
    call = Call(method="GET", path=path_of(batch_id), headers=headers, wait=wait)
    answer = yield from exchange(lambda: call, limits)
    return BatchSnapshot.of(document_of(answer))


def finished(batch_id: str, limits: Limits) -> Flow[BatchSnapshot]:
    """The batch once all its items have ended.

    Raises:
        Timeout: some have not by the end of ``limits``.
    """
    return (yield from until_ended(partial(look, batch_id, limits), limits, f"batch {batch_id}"))


def items(batch_id: str, limits: Limits) -> Flow[list[dict[str, Any]]]:
    """Every item of a batch, in the order sent."""
    call = Call(method="GET", path=f"{path_of(batch_id)}/results")
    answer = yield from exchange(lambda: call, limits)
    try:
        return [json.loads(line) for line in answer.text.splitlines() if line]
    except ValueError:
        raise UnexpectedAnswer(f"{answer.url} did not answer with lines of JSON") from None


def cancel(batch_id: str, limits: Limits) -> Flow[BatchSnapshot]:
    """Cancel every item that has not ended."""
    call = Call(method="POST", path=f"{path_of(batch_id)}/cancel")
    answer = yield from exchange(lambda: call, limits)
    return BatchSnapshot.of(document_of(answer))


def path_of(batch_id: str) -> str:
    """Where the API keeps a batch."""
    return f"/batch_inference/{quote(batch_id, safe='')}"
