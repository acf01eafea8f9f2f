"""A request as it is stored: its states, its record and the attempts to run it. Pure data; no call to Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any

from tasks.lanes import Lane

#: Predictions in the outcome. The others are in another field of the record, ``more``, which lists leave out: five
#: hundred records of a thousand predictions each take a reader 150 MB and seconds.
LISTED = 5
#: Fields of a record in lists.
BRIEF = (
    "state", "lane", "spec", "created", "started", "completed", "expires", "deadline", "attempt", "outcome", "timeline",
    "fingerprint",
)  # fmt: skip


class State(StrEnum):
    """The states of a request."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether it is final (unless a person requeues a dead letter)."""
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it is now. Times are epoch seconds by Redis's clock; timings are seconds."""

    id: str
    state: State
    model_type: str
    priority: str
    lane: str
    top_k: int
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    expires_at: float | None = None
    deadline: float | None = None
    attempts: int = 0
    model: str | None = None
    weights: str | None = None
    runtime: str | None = None
    precision: str | None = None
    predictions: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    timings: dict[str, float] = field(default_factory=dict)
    batch_id: str | None = None
    custom_id: str | None = None
    fingerprint: str | None = None
    traceparent: str | None = None
    callback_url: str | None = None
    timeline: list[dict[str, Any]] = field(default_factory=list)

    @property
    def worker_id(self) -> str | None:
        """The node name of the worker that started it last."""
        return self.workers[-1] if self.workers else None

    @property
    def workers(self) -> list[str]:
        """The node names of the workers that started it, first to last; the boot id after the slash is internal."""
        return [str(event["worker"]).rpartition("/")[0] for event in self.timeline if event["event"] == "started"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Permission to run a request once, for the holder of its delivery; ``model`` is the holder's.

    ``payload`` is the reference of an image outside Redis. A request with neither was canceled in between, or has lost
    its image.
    """

    id: str
    model: str
    number: int
    spec: dict[str, Any]
    image: bytes | None
    created_at: float
    started_at: float
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """The requests of a delivery: attempts that began, and ids of those that must run alone and did not."""

    attempts: list[Attempt] = field(default_factory=list)
    suspects: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended; ``result`` is JSON, times are seconds, ``batch`` is the size of the forward pass.

    ``more`` is the JSON of the predictions after the first LISTED, empty where there are none. ``passes`` is how many
    forward passes ran side by side, this one included.
    """

    state: State
    result: str
    more: str = ""
    decode: float = 0.0
    infer: float = 0.0
    batch: int = 0
    passes: int = 1
    dead_letter: bool = False


def parse(request_id: str, text: Mapping[str, str]) -> Request:
    """A stored hash as a :class:`Request`."""
    state = State(text["state"])
    events = ",".join(text.get("timeline", "").splitlines())
    spec, outcome, timeline = json.loads(f"[{text['spec']},{text.get('outcome', '{}')},[{events}]]")
    answer = outcome if state is State.SUCCEEDED else {}
    predictions = answer.get("predictions")
    if answer and "more" in text:
        predictions = [*(predictions or ()), *json.loads(text["more"])]
    lane = Lane.parse(text["lane"])
    return Request(
        id=request_id,
        state=state,
        model_type=spec.get("model_type", lane.model),
        priority=lane.priority,
        lane=text["lane"],
        top_k=spec["top_k"],
        created_at=float(text["created"]),
        started_at=_float(text.get("started")),
        completed_at=_float(text.get("completed")),
        expires_at=_float(text.get("expires")),
        deadline=_float(text.get("deadline")),
        attempts=int(text["attempt"]),
        model=answer.get("model"),
        weights=answer.get("weights"),
        runtime=answer.get("runtime"),
        precision=answer.get("precision"),
        predictions=predictions,
        error=outcome or None if state is State.FAILED else None,
        timings=_timings(text, answer),
        batch_id=spec.get("batch_id"),
        custom_id=spec.get("custom_id"),
        fingerprint=text.get("fingerprint") or None,
        traceparent=spec.get("traceparent"),
        callback_url=spec.get("callback_url"),
        timeline=[{"at": float(text["created"]), "event": "accepted"}, *timeline],
    )


def texts(record: Mapping[bytes, bytes] | Sequence[bytes | str]) -> dict[str, str]:
    """A hash as text: a mapping as RESP3 gives it, or names and values one after the other as RESP2 and scripts do."""
    flat = chain.from_iterable(record.items()) if isinstance(record, Mapping) else record
    items = [item.decode() if isinstance(item, bytes) else item for item in flat]
    return dict(zip(items[::2], items[1::2], strict=True))


def brief(values: Sequence[bytes | None]) -> dict[str, str]:
    """The fields :data:`BRIEF` as text, without those that the record lacks."""
    return {name: value.decode() for name, value in zip(BRIEF, values, strict=True) if value is not None}


def _timings(text: Mapping[str, str], answer: Mapping[str, Any]) -> dict[str, float]:
    timings = {name: answer[name] for name in ("decode", "infer") if name in answer}
    for name, end in (("queue", "started"), ("total", "completed")):
        if end in text:
            timings[name] = round(float(text[end]) - float(text["created"]), 6)
    return timings


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)
