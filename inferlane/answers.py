"""The API's answers as values: predictions, results, requests, batches and their items.

Each keeps its whole document as ``raw``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferlane.errors import ClientError, UnexpectedAnswer, outcome, problem

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class: its name, its number in the model's output, its probability from 0 to 1."""

    label: str
    index: int
    confidence: float

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Prediction:
        """The prediction in one element of ``predictions``."""
        return cls(str(document["class"]), int(document["index"]), float(document["confidence"]))


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one request.

    Attributes:
        predictions: best first.
        model: which model answered, with ``weights``; "random" weights mean nothing.
        processing_time: seconds from acceptance to the end.
        timings: seconds per stage.
        attempts: how often a worker started it.
    """

    request_id: str
    predictions: Sequence[Prediction]
    model: str
    weights: str
    worker_id: str
    processing_time: float | None
    timings: Mapping[str, float]
    attempts: int
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def best(self) -> Prediction:
        """The most probable class."""
        return self.predictions[0]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Result:
        """The result in a request resource or in an item of a batch."""
        return cls(
            request_id=str(document["request_id"]),
            predictions=tuple(Prediction.of(item) for item in document["predictions"]),
            model=str(document["model"]),
            weights=str(document["weights"]),
            worker_id=str(document["worker_id"]),
            processing_time=document.get("processing_time"),
            timings=document.get("timings") or {},
            attempts=int(document.get("attempts") or 1),
            raw=document,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A request as it was at one moment.

    Attributes:
        state: queued, running, succeeded, failed, canceled or expired.
        queue_position: how many requests are ahead of it; None when unknown or not queued.
        eta: expected seconds until it ends; None when unknown.
    """

    request_id: str
    state: str
    model_type: str
    priority: str
    queue_position: int | None
    eta: float | None
    attempts: int
    worker_id: str | None
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    def result(self) -> Result:
        """The answer.

        Raises:
            RequestEnded: it ended without one.
            InvalidImage: it ended because the image cannot be used.
        """
        if self.state == "succeeded":
            return Result.of(self.raw)
        error = outcome(self.state, self.raw.get("error"))
        error.request_id = self.request_id
        raise error

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Snapshot:
        """The request in its resource."""
        return cls(
            request_id=str(document["request_id"]),
            state=str(document["state"]),
            model_type=str(document["model_type"]),
            priority=str(document["priority"]),
            queue_position=document.get("queue_position"),
            eta=document.get("eta"),
            attempts=int(document.get("attempts") or 0),
            worker_id=document.get("worker_id"),
            raw=document,
        )


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """A batch as it was at one moment; ``counts`` says how many items are in which state, and their ``total``."""

    batch_id: str
    ended: bool
    counts: Mapping[str, int]
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> BatchSnapshot:
        """The batch in its resource."""
        ended = document["status"] == "completed"
        return cls(str(document["batch_id"]), ended, dict(document["counts"]), document)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one image of many, ``source`` at place ``index``, ended: with a result or with an error, never both."""

    index: int
    source: Any
    result: Result | None = None
    error: ClientError | None = None

    def unwrap(self) -> Result:
        """The result, or the error raised."""
        if self.result is None:
            raise self.error or UnexpectedAnswer("neither a result nor an error")
        return self.result


def item_outcome(document: Mapping[str, Any], sources: Sequence[Any] = ()) -> Outcome | None:
    """How an item of a batch ended, by a line of its results; None when it has not.

    The outcome's source is that of ``sources``, the images in the order sent, else the item's ``custom_id``.
    """
    index, status = int(document["index"]), str(document["status"])
    source = sources[index] if index < len(sources) else document.get("custom_id")
    if status in {"queued", "running"}:
        return None
    if status in {"succeeded", "success"}:
        return Outcome(index, source, result=Result.of(document))
    failure = document.get("error") or {"code": status, "message": f"The item is {status}."}
    if status == "rejected":  # never became a request: a full lane may have room later
        error = problem(0, {**failure, "detail": failure.get("message")})
    else:
        error = outcome(status if status in {"canceled", "expired"} else "failed", failure)
    error.request_id = document.get("request_id")
    return Outcome(index, source, error=error)
