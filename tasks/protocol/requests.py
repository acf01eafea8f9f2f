"""The request record: the one owner of request state.

Every transition is one Lua script: atomic, fenced by the attempt number, and moving the conservation ledger in the same
call. This module runs the scripts and reads records; it decides nothing about queues, retries or batches.

::

    queued --begin--> running --commit--> succeeded | failed
      ^ |                | |
      | |                | +--cancel--> canceled
      | +--cancel/expire-|------------> canceled | expired
      +--requeue, rescue-+
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any

from common.settings import Settings
from tasks.errors import AlreadyFinished, UnknownRequest
from tasks.lanes import Lane
from tasks.protocol import scripts
from tasks.protocol.connections import Client, Kept, translated
from tasks.protocol.keys import Keys

#: No request is started more often than this, whatever the reason: nothing loops.
MOST_ATTEMPTS = 25

#: Predictions that stand in the outcome. The others have a field of their own in the record, ``more``, that lists leave
#: out: five hundred records of a thousand predictions each take a reader 150 MB and seconds.
LISTED = 5
#: What :meth:`Records.briefs` reads.
BRIEF = (
    "state", "lane", "spec", "created", "started", "completed", "expires", "deadline", "attempt", "outcome", "timeline",
    "fingerprint",
)  # fmt: skip


class State(StrEnum):
    """Where a request is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether nothing can change it any more (but a person reviving a dead letter)."""
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
    worker_id: str | None = None
    model: str | None = None
    weights: str | None = None
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
    def workers(self) -> list[str]:
        """The node names of the workers that started it, first to last; the boot id after the slash is internal."""
        return [str(event["worker"]).rpartition("/")[0] for event in self.timeline if event["event"] == "started"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Leave to run a request once, as the holder of a delivery; ``model`` is the holder's."""

    id: str
    model: str
    number: int
    spec: dict[str, Any]
    image: bytes
    created_at: float
    started_at: float


@dataclass(frozen=True, slots=True)
class Started:
    """What of a delivery may run: the attempts that began, and the ids of those that must run alone and did not."""

    attempts: list[Attempt] = field(default_factory=list)
    suspects: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended; ``result`` is JSON, times are seconds, ``batch`` is the size of the forward pass.

    ``more`` is the JSON of the predictions after the first LISTED, empty where there are none. ``passes`` is how many
    forward passes ran side by side with that one, itself included.
    """

    state: State
    result: str
    more: str = ""
    decode: float = 0.0
    infer: float = 0.0
    batch: int = 0
    passes: int = 1
    dead_letter: bool = False


class Records:
    """Reads and moves request records through one Redis client."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.kept = Kept(client)
        self.keys = Keys(settings.key_prefix)
        self._prefix = settings.key_prefix
        self._ttls = ttls(settings)

    # -- for everybody

    def get(self, request_id: str) -> Request:
        """The request as it is now.

        Raises:
            UnknownRequest: no record has this id.
            Unavailable: Redis does not answer.
        """
        with translated():
            record = _texts(self.kept.execute_command("HGETALL", self.keys.request(request_id)))
        if not record:
            raise UnknownRequest(f"no request {request_id}")
        return parse(request_id, record)

    def get_many(self, ids: Sequence[str]) -> list[Request]:
        """The records that exist among ``ids``, in order, in one round trip."""
        with translated():
            records = self.kept.pipeline([("HGETALL", self.keys.request(request_id)) for request_id in ids])
        found = zip(ids, map(_texts, records), strict=True)
        return [parse(request_id, record) for request_id, record in found if record]

    def briefs(self, ids: Sequence[str]) -> list[Request]:
        """As :meth:`get_many`, with no more than the first LISTED predictions of each."""
        with translated():
            records = self.kept.pipeline([("HMGET", self.keys.request(request_id), *BRIEF) for request_id in ids])
        found = zip(ids, (_brief(values) for values in records), strict=True)
        return [parse(request_id, record) for request_id, record in found if record]

    def hear(self, reply: str, seconds: float, *, most: int = 1) -> dict[str, Request | None]:
        """Wait up to ``seconds`` for words on a reply list: which requests have ended, with the record if asked for."""
        with translated():
            heard = self.kept.block(seconds, "BLPOP", reply, f"{max(seconds, 0.001):.3f}")
            if heard is None:
                return {}
            more = self.kept.execute_command("LPOP", reply, most - 1) or () if most > 1 else ()
        return dict(map(self._word, (heard[1], *more)))

    def _word(self, word: bytes) -> tuple[str, Request | None]:
        name, _, record = word.partition(b"\n")
        request_id = name.decode()
        return request_id, parse(request_id, _pairs(json.loads(record.decode()))) if record else None

    def image(self, request_id: str) -> bytes | None:
        """The image of a request that may still run; None when it is deleted."""
        with translated():
            found: bytes | None = self.client.get(self.keys.image(request_id))
        return found

    def cancel(self, request_id: str) -> None:
        """End a queued or running request; canceling twice is fine.

        Raises:
            UnknownRequest: no record has this id.
            AlreadyFinished: it has succeeded, failed or expired.
        """
        found = self._run("cancel", [request_id, self._ttls])
        if found is None:
            raise UnknownRequest(f"no request {request_id}")
        state = State(found.decode())
        if state.terminal and state is not State.CANCELED:
            raise AlreadyFinished(f"request {request_id} has {state}")

    def watch(self, request_id: str, reply: str) -> State | None:
        """Ask for a word on ``reply`` when the request ends, with its record if that ends in ``+``.

        Returns the state now, None when unknown; nobody will be told of one that has ended.
        """
        found = self._run("watch", [request_id, reply])
        return State(found.decode()) if found else None

    def remark(self, request_id: str, event: str, **members: Any) -> None:
        """Add a line to the timeline of a request that is still kept; it changes nothing else."""
        extra = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in members.items())
        self._run("remark", [request_id, event, extra])

    def watch_many(self, ids: Sequence[str], reply: str) -> set[str]:
        """As :meth:`watch`, in one round trip; those that have not ended."""
        with translated():
            calls = [((), (self._prefix, request_id, reply)) for request_id in ids]
            states, _ = scripts.run_and_get(self.kept, "watch", calls, ())
        return {name for name, state in zip(ids, states, strict=True) if state and not State(state.decode()).terminal}

    def expire(self) -> int:
        """End queued requests whose deadline has passed; how many."""
        return int(self._run("expire", [self._ttls]))

    # -- for the worker that holds a delivery

    def begin(self, ids: Iterable[str], boot: str, tag: str, model: str, *, alone: bool = False) -> Started:
        """Start those of ``ids`` that this delivery may run; the others have ended, run elsewhere or must run alone.

        Args:
            ids: the requests of the delivery.
            boot: the holder's boot id.
            tag: the delivery's tag.
            model: the holder's model, under whose name a shared lane's latencies are counted.
            alone: whether nothing else runs in the holder until they have ended.
        """
        return self.begin_all([(list(ids), tag)], boot, model, alone=alone)[0]

    def begin_all(
        self, held: Sequence[tuple[Sequence[str], str]], boot: str, model: str, *, alone: bool = False
    ) -> list[Started]:
        """As :meth:`begin` for several deliveries, each with its ids and its tag, in one round trip."""
        wanted = [(request_id, tag) for ids, tag in held for request_id in ids]
        more = (self._ttls, MOST_ATTEMPTS, model, int(alone))
        calls = [((), (self._prefix, boot, tag, request_id, *more)) for request_id, tag in wanted]
        keys = [self.keys.image(request_id) for request_id, _ in wanted]
        with translated():
            answers, images = scripts.run_and_get(self.kept, "begin", calls, keys)
        started = {tag: Started() for _, tag in held}
        for (request_id, tag), answer, image in zip(wanted, answers, images, strict=True):
            if answer[0] > 0:
                started[tag].attempts.append(_attempt(request_id, model, answer, image))
            elif answer[1] == b"alone":
                started[tag].suspects.append(request_id)
        return list(started.values())

    def commit(self, boot: str, attempt: Attempt, outcome: Outcome) -> bool:
        """Store how the attempt ended; False when a later attempt or another end owns the request (fenced)."""
        return self.commit_all(boot, [(attempt, outcome)])[0]

    def commit_all(self, boot: str, ends: Sequence[tuple[Attempt, Outcome]]) -> list[bool]:
        """As :meth:`commit` for several, in one round trip; each is a step by itself."""
        calls = [((), self._commit_arguments(boot, attempt, outcome)) for attempt, outcome in ends]
        with translated():
            answers, _ = scripts.run_and_get(self.kept, "commit", calls, ())
        return [answer != 0 for answer in answers]

    def _commit_arguments(self, boot: str, attempt: Attempt, outcome: Outcome) -> list[Any]:
        spent = [f"{outcome.decode:.6f}", f"{outcome.infer:.6f}"]
        args = [self._prefix, boot, attempt.id, attempt.number, str(outcome.state), outcome.result, self._ttls, *spent]
        return [*args, int(outcome.dead_letter), outcome.batch, attempt.model, outcome.more]

    def give_back(self, boot: str, tag: str, lane: str, message: str, ids: Sequence[str]) -> bool:
        """Return requests of a delivery that have not run to the head of their lane, in ``message``; False for none."""
        call = [self._prefix, boot, tag, message, 1, *ids]
        with translated():
            return bool(scripts.run(self.kept, "give_back", self.keys.lane_and_bell(lane), call))

    def requeue(self, boot: str, attempt: Attempt, error: Mapping[str, Any]) -> bool:
        """Back to queued after a transient failure; False when fenced."""
        return bool(self._run("requeue", [boot, attempt.id, attempt.number, json.dumps(error)]) == 1)

    def _run(self, name: str, args: Sequence[Any]) -> Any:
        with translated():
            return scripts.run(self.kept, name, (), [self._prefix, *args])


def _attempt(request_id: str, model: str, answer: Sequence[Any], image: bytes | None) -> Attempt:
    """``image`` is None when the request was canceled in between; its answer will be fenced."""
    number, spec, created, started = answer
    return Attempt(
        id=request_id,
        model=model,
        number=number,
        spec=json.loads(spec),
        image=image or b"",
        created_at=float(created),
        started_at=float(started),
    )


def ttls(settings: Settings) -> str:
    """How long finished records stay, as the scripts take it: ``RESULT_TTL/FAILURE_TTL``; they know the rule."""
    return f"{settings.result_ttl:g}/{settings.failure_ttl:g}"


def parse(request_id: str, text: Mapping[str, str]) -> Request:
    """A stored hash as a :class:`Request`."""
    spec = json.loads(text["spec"])
    state = State(text["state"])
    outcome = json.loads(text["outcome"]) if "outcome" in text else {}
    succeeded = state is State.SUCCEEDED
    completed = _float(text.get("completed"))
    timeline = _timeline(text)
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
        completed_at=completed,
        expires_at=_float(text.get("expires")),
        deadline=_float(text.get("deadline")),
        attempts=int(text["attempt"]),
        worker_id=_worker(timeline),
        model=outcome.get("model") if succeeded else None,
        weights=outcome.get("weights") if succeeded else None,
        predictions=_predictions(text, outcome) if succeeded else None,
        error=outcome or None if state is State.FAILED else None,
        timings=_timings(text, outcome if succeeded else {}),
        batch_id=spec.get("batch_id"),
        custom_id=spec.get("custom_id"),
        fingerprint=text.get("fingerprint") or None,
        traceparent=spec.get("traceparent"),
        callback_url=spec.get("callback_url"),
        timeline=timeline,
    )


def _texts(record: Mapping[bytes, bytes] | Sequence[bytes | str]) -> dict[str, str]:
    """A hash as text: a mapping as RESP3 gives it, or names and values one after the other as RESP2 and scripts do."""
    flat = chain.from_iterable(record.items()) if isinstance(record, Mapping) else record
    texts = [item.decode() if isinstance(item, bytes) else item for item in flat]
    return _pairs(texts)


def _brief(values: Sequence[bytes | None]) -> dict[str, str]:
    """What :data:`BRIEF` names, as far as the record has it."""
    return {name: value.decode() for name, value in zip(BRIEF, values, strict=True) if value is not None}


def _predictions(text: Mapping[str, str], outcome: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    first: list[dict[str, Any]] | None = outcome.get("predictions")
    return [*(first or ()), *json.loads(text["more"])] if "more" in text else first


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _timeline(text: Mapping[str, str]) -> list[dict[str, Any]]:
    accepted = {"at": float(text["created"]), "event": "accepted"}
    return [accepted, *json.loads(f"[{','.join(text.get('timeline', '').splitlines())}]")]


def _worker(timeline: Sequence[Mapping[str, Any]]) -> str | None:
    """The node name of the worker that started it last; the boot id after the slash is internal."""
    started = [event["worker"] for event in timeline if event["event"] == "started"]
    return str(started[-1]).rpartition("/")[0] if started else None


def _timings(text: Mapping[str, str], outcome: Mapping[str, Any]) -> dict[str, float]:
    created, started, completed = float(text["created"]), _float(text.get("started")), _float(text.get("completed"))
    timings = {name: outcome[name] for name in ("decode", "infer") if name in outcome}
    if started is not None:
        timings["queue"] = round(started - created, 6)
    if completed is not None:
        timings["total"] = round(completed - created, 6)
    return timings


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)
