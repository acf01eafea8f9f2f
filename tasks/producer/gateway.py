"""The producer: admission, claim check, publish; wait; cancel.

One :class:`Gateway` per process, shared by its threads. A request is accepted in one Redis call that stores its record,
its image and its message together: either all of it is there or none.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from common.settings import Settings
from tasks.celery import app
from tasks.errors import (
    AlreadyFinished,
    DeadlineHopeless,
    Full,
    IdempotencyConflict,
    LaneFull,
    PurgedRequest,
    TaskError,
    TooManyWaiters,
    Unavailable,
    UnknownRequest,
    UnsupportedModel,
)
from tasks.lanes import ANY, PRIORITIES, STRATEGIES, lane, room
from tasks.producer.live_workers import Fleet
from tasks.protocol import connections, envelope, scripts
from tasks.protocol.connections import translated
from tasks.protocol.keys import Keys
from tasks.protocol.requests import Records, Request, State

#: Seconds after a refusal in which this process asks for room before it sends images.
WARY = 2.0

#: Seconds between looks at the record while waiting, should a word get lost.
RECHECK = 5.0

#: What ``accept.lua`` answers.
ACCEPTED, REPLAYED, ANOTHER_BODY, NO_ROOM, NO_ROOM_FOR_IMAGE, WOULD = 1, 0, -1, -2, -3, 2
REFUSALS = frozenset({NO_ROOM, NO_ROOM_FOR_IMAGE})

#: Seconds for which an image waits to be accepted; only a producer that dies right there leaves one to expire.
UPLOAD = 60

#: Bytes of an image from which asking whether its request is known costs less than sending it for nothing.
ASK_FIRST = 262_144

#: What a caller has to know when Redis went away in the middle.
UNKNOWN = "Whether it was accepted is unknown: send it again with the same request_id or Idempotency-Key"

#: Seconds to come back after, when nothing has been measured yet.
UNMEASURED = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller asks for. ``deadline`` is seconds from now; ``image`` the bytes of one image file."""

    image: bytes
    model_type: str = ANY
    priority: str = "normal"
    request_id: str | None = None
    deadline: float | None = None
    top_k: int = 5
    fingerprint: str | None = None
    traceparent: str | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A promise: the request ends exactly once. ``replayed`` when the same id and body were accepted before."""

    id: str
    replayed: bool
    state: State


@dataclass(frozen=True, slots=True)
class Entry:
    """A submission with its id and the lane that was chosen for it."""

    id: str
    lane: str
    model: str
    submission: Submission
    wait: float | None


class Gateway:
    """Accepts, watches and cancels requests."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.key_prefix)
        self._client = connections.prompt(settings.redis_url)
        self._fleet = Fleet(self._client, self._keys)
        self._choose = STRATEGIES[settings.any_strategy]()
        self._thread = threading.local()
        self._wary: dict[str, float] = {}
        self._places = threading.BoundedSemaphore(settings.max_waiters)
        self.records = Records(self._client, settings)

    def submit(self, submission: Submission) -> Accepted:
        """Accept one request.

        Raises:
            UnsupportedModel: nobody serves such a model.
            LaneFull, DeadlineHopeless: refused, nothing stored; ``retry_after`` says when to come back.
            IdempotencyConflict: the id was used with another body.
            Unavailable: Redis does not answer.
        """
        return self._submit(submission)

    def submit_and_wait(self, submission: Submission, timeout: float) -> tuple[Accepted, Request | None]:
        """Accept one request and block until it has ended or ``timeout`` seconds are over: the record as it is then.

        It is accepted by then, so what keeps this thread from waiting is no error but a record that is None: no place
        is free, or Redis was lost.

        Raises:
            What :meth:`submit` raises.
        """
        if timeout <= 0 or not self._places.acquire(blocking=False):
            return self._submit(submission), None
        try:
            accepted = self._submit(submission, self._replies() + "+")
            with suppress(Unavailable):
                return accepted, self._wait(accepted.id, timeout, watched=not accepted.replayed)
            return accepted, None
        finally:
            self._places.release()

    def _submit(self, submission: Submission, reply: str = "") -> Accepted:
        answer = self._accept([self._admit(submission)], reply)[0]
        if isinstance(answer, TaskError):
            raise answer
        return answer

    def submit_many(self, items: Sequence[Submission]) -> list[Accepted | TaskError]:
        """Accept many, each with its own outcome; those of one lane travel as one task per BATCH_CHUNK requests.

        Raises:
            Full: Redis has no memory; nothing was accepted. Where some were, the others have it as their outcome.
            Unavailable: Redis does not answer: which were accepted is unknown, and their ids are safe to send again.
        """
        outcomes: dict[int, Accepted | TaskError] = {}
        lanes: dict[str, list[tuple[int, Entry]]] = defaultdict(list)
        for index, submission in enumerate(items):
            try:
                entry = self._admit(submission)
            except (UnsupportedModel, DeadlineHopeless) as error:
                outcomes[index] = error
            else:
                lanes[entry.lane].append((index, entry))
        for members in lanes.values():
            for start in range(0, len(members), self._settings.batch_chunk):
                chunk = members[start : start + self._settings.batch_chunk]
                try:
                    answers = self._accept([entry for _, entry in chunk])
                except Full as error:
                    if not any(isinstance(outcome, Accepted) for outcome in outcomes.values()):
                        raise
                    answers = [error] * len(chunk)
                outcomes.update(zip((index for index, _ in chunk), answers, strict=True))
        return [outcomes[index] for index in range(len(items))]

    def submit_all_and_wait(self, items: Sequence[Submission], timeout: float) -> list[Request]:
        """Accept all of these or none, and block until they have ended or ``timeout`` seconds are over.

        Raises:
            TooManyWaiters, UnsupportedModel, LaneFull, DeadlineHopeless: refused; nothing is left that would run.
            Unavailable: Redis does not answer; some of them may run.
        """
        with self._place():
            if len(items) == 1:
                accepted = self._submit(items[0], self._replies() + "+")
                return [self._wait(accepted.id, timeout, watched=not accepted.replayed)]
            ids = self._submit_all(items)
            self._wait_many(ids, timeout)
        return self.records.get_many(ids)

    def _submit_all(self, items: Sequence[Submission]) -> list[str]:
        """Ask for room for all of them first; if others have taken it since, cancel those that were accepted."""
        entries = [self._admit(submission) for submission in items]
        lanes: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            lanes[entry.lane].append(entry)
        size = self._settings.batch_chunk
        for members in lanes.values():
            self._raise_refusal(members, self._run_accept(members))
        accepted: list[str] = []
        for chunk in (members[at : at + size] for members in lanes.values() for at in range(0, len(members), size)):
            answers = self._run_accept(chunk, self._seal(chunk))
            accepted += [entry.id for entry, (code, _) in zip(chunk, answers, strict=True) if code == ACCEPTED]
            try:
                self._raise_refusal(chunk, answers)
            except TaskError:
                self._withdraw(accepted)
                raise
        return [entry.id for entry in entries]

    def _raise_refusal(self, entries: Sequence[Entry], answers: Sequence[Any]) -> None:
        """Raise what refuses the first of these, if one is refused."""
        for entry, (code, state) in zip(entries, answers, strict=True):
            if code in {*REFUSALS, ANOTHER_BODY} and isinstance(error := self._outcome(entry, code, state), TaskError):
                raise error

    def _withdraw(self, ids: Sequence[str]) -> None:
        for request_id in ids:
            with suppress(AlreadyFinished, UnknownRequest):
                self.records.cancel(request_id)

    def get(self, request_id: str) -> Request:
        """The request as it is now; one whose deadline has passed unserved ends here at the latest.

        Raises:
            UnknownRequest, PurgedRequest, Unavailable
        """
        with self._purged_apart(request_id):
            request = self.records.get(request_id)
        if request.state is State.QUEUED and request.deadline is not None and request.deadline < time.time():
            self.records.expire()
            return self.records.get(request_id)
        return request

    def wait(self, request_id: str, timeout: float) -> Request:
        """Block until the request has ended or ``timeout`` seconds are over; the record as it is then.

        Raises:
            TooManyWaiters: MAX_WAITERS threads of this process wait already.
            UnknownRequest, PurgedRequest, Unavailable
        """
        with self._place():
            return self._wait(request_id, timeout)

    def wait_many(self, ids: Sequence[str], timeout: float) -> None:
        """Block until all of these have ended or ``timeout`` seconds are over; unknown ones count as ended.

        Raises:
            TooManyWaiters, Unavailable
        """
        with self._place():
            self._wait_many(ids, timeout)

    def _wait_many(self, ids: Sequence[str], timeout: float) -> None:
        ends = time.monotonic() + timeout
        waiting = self.records.watch_many(ids, self._replies())
        while waiting and (left := ends - time.monotonic()) > 0:
            heard = self.records.hear(self._replies(), min(left, RECHECK), most=len(waiting))
            waiting -= heard.keys()
            if not heard:
                waiting = {request.id for request in self.records.briefs(list(waiting)) if not request.state.terminal}

    def _wait(self, request_id: str, timeout: float, *, watched: bool = False) -> Request:
        """Words of requests that this thread has stopped waiting for may still come; they are passed over."""
        ends = time.monotonic() + timeout
        if not watched and timeout > 0:
            state = self.records.watch(request_id, self._replies() + "+")
            watched = state is not None and not state.terminal
        while watched and (left := ends - time.monotonic()) > 0:
            heard = self.records.hear(self._replies(), min(left, RECHECK))
            if ended := heard.get(request_id):
                return ended
            if (request_id in heard or not heard) and (request := self.get(request_id)).state.terminal:
                return request
        return self.get(request_id)

    def _replies(self) -> str:
        """The reply list of this thread."""
        name: str | None = getattr(self._thread, "replies", None)
        if name is None:
            name = self._thread.replies = self._keys.reply(f"{os.getpid()}-{uuid4().hex[:12]}")
        return name

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise TooManyWaiters("every waiting place of this process is taken")
        try:
            yield
        finally:
            self._places.release()

    def cancel(self, request_id: str) -> Request:
        """End a queued or running request; canceling twice is fine.

        Raises:
            UnknownRequest, PurgedRequest, AlreadyFinished, Unavailable
        """
        with self._purged_apart(request_id):
            self.records.cancel(request_id)
        return self.get(request_id)

    @contextmanager
    def _purged_apart(self, request_id: str) -> Iterator[None]:
        """Tell a request that has gone from one that never was."""
        try:
            yield
        except UnknownRequest:
            if self._was_ours(request_id):
                raise PurgedRequest(f"the record of request {request_id} has expired") from None
            raise

    def _was_ours(self, request_id: str) -> bool:
        """Whether an unknown id was given out long enough ago for its record to be gone: it says so, or a mark does."""
        try:
            parsed = UUID(request_id.partition(".")[0])  # an item's id is its batch's, a dot and a number
        except ValueError:
            parsed = UUID(int=0)
        if parsed.version == 7:
            age = time.time() - (parsed.int >> 80) / 1000
            return min(self._settings.result_ttl, self._settings.failure_ttl) <= age
        with translated():
            return bool(self._client.exists(self._keys.gone(request_id)))

    def close(self) -> None:
        """Close the connections."""
        self.records.kept.close()
        self._client.close()

    # -- admission

    def _admit(self, submission: Submission) -> Entry:
        """Choose the lane; refuse what cannot be served in time."""
        if submission.priority not in PRIORITIES:
            raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, not {submission.priority!r}")
        model = self._model_for(submission.model_type)
        wait = self._fleet.expected_wait(model, submission.priority)
        if submission.deadline is not None and wait is not None and wait > submission.deadline:
            self._count_refusal()
            raise DeadlineHopeless(
                f"the expected wait is {wait:.1f} s, longer than the deadline of {submission.deadline:g} s"
            ).after(wait - submission.deadline)
        request_id = submission.request_id or str(uuid7())
        return Entry(request_id, lane(submission.priority, model), model, submission, wait)

    def _model_for(self, model_type: str) -> str:
        live = self._fleet.models()
        if model_type == ANY:
            return self._choose(live) if live else ANY
        if model_type not in self._settings.models and model_type not in live:
            known = ", ".join(sorted({*self._settings.models, *live, ANY}))
            raise UnsupportedModel(f"no model {model_type!r}; there are {known}")
        return model_type

    def _count_refusal(self) -> None:
        with translated():
            self._client.hincrby(self._keys.counters, "refused")

    def _accept(self, entries: Sequence[Entry], reply: str = "") -> list[Accepted | TaskError]:
        """Store and publish entries of one lane as one message.

        Soon after a refusal, and for an id that may be known already, room is asked for before images are sent.
        """
        where = entries[0].lane
        answers: list[Any] = []
        if time.monotonic() < self._wary.get(where, 0.0) or any(_may_be_known(entry.submission) for entry in entries):
            answers = self._run_accept(entries)
        if not answers or any(code == WOULD for code, _ in answers):
            answers = self._run_accept(entries, self._seal(entries), reply)
        if any(code in REFUSALS for code, _ in answers):
            self._wary[where] = time.monotonic() + WARY
        return [self._outcome(entry, *answer) for entry, answer in zip(entries, answers, strict=True)]

    def _run_accept(self, entries: Sequence[Entry], message: str = "", reply: str = "") -> list[Any]:
        """What ``accept.lua`` says of each entry; without a message it is only asked, and no image is sent."""
        first = entries[0]
        backlog = [lane(priority, first.model) for priority in PRIORITIES]
        limits = [*room(first.submission.priority, self._settings.max_queue), self._bytes_bound()]
        args: list[Any] = [self._keys.prefix, first.lane, message, *limits, reply, len(backlog), *backlog]
        images = []
        for entry in entries:
            upload = self._keys.upload(os.urandom(16).hex()) if message else ""
            if upload:
                images.append(("SET", upload, entry.submission.image, "EX", UPLOAD))
            args += [*_fields(entry), upload]
        keys = self._keys.lane_and_bell(first.lane)
        try:
            with translated():
                return list(scripts.run_after(self.records.kept, images, "accept", keys, args))
        except Full:
            raise
        except Unavailable as error:
            if not message:
                raise
            raise Unavailable(f"{error}. {UNKNOWN}") from error

    def refusal(self) -> str:
        """Why Redis takes no writes now; empty when it does."""
        try:
            with translated():
                self._client.set(self._keys.probe, "", nx=True, ex=UPLOAD)
        except Unavailable as error:
            return str(error)
        return ""

    def image_bytes(self) -> tuple[int, int]:
        """Bytes of images that open requests hold, and how many they may; 0 for no limit."""
        with translated():
            return int(self._client.get(self._keys.image_bytes) or 0), self._bytes_bound()

    def _bytes_bound(self) -> int:
        """Bytes of images that open requests may hold; 0 for no limit."""
        return self._settings.max_queue_bytes or self._fleet.memory() // 2

    def _seal(self, entries: Sequence[Entry]) -> str:
        """The message over entries of one lane."""
        return envelope.seal(app, entries[0].lane, [entry.id for entry in entries])

    def _outcome(self, entry: Entry, code: int, state: bytes) -> Accepted | TaskError:
        if code == ANOTHER_BODY:
            return IdempotencyConflict(f"request {entry.id} was accepted before with another body")
        if code in REFUSALS:
            wait = self._fleet.expected_wait(entry.model, entry.submission.priority) or UNMEASURED
            return LaneFull(self._full(entry, code)).after(wait / 2)
        return Accepted(entry.id, code == REPLAYED, State(state.decode()))

    def _full(self, entry: Entry, code: int) -> str:
        """What is full."""
        if code == NO_ROOM_FOR_IMAGE:
            return "open requests hold as many bytes of images as they may (MAX_QUEUE_BYTES)"
        why = f", and {entry.lane} is paused" if self._fleet.paused(entry.lane) else ""
        return f"the lanes of {entry.model} are full for {entry.submission.priority}{why}"


def _fields(entry: Entry) -> list[Any]:
    """One request as ``accept.lua`` wants it, without its upload."""
    submission = entry.submission
    spec: dict[str, Any] = {"top_k": submission.top_k}
    if submission.model_type != entry.model:
        spec["model_type"] = submission.model_type
    for name in ("traceparent", "batch_id", "custom_id", "callback_url"):
        if (value := getattr(submission, name)) is not None:
            spec[name] = value
    return [
        entry.id,
        json.dumps(spec, separators=(",", ":")),
        submission.fingerprint or "",
        "" if submission.deadline is None else submission.deadline,
        "" if entry.wait is None else round(entry.wait, 3),
        len(submission.image),
    ]


def _may_be_known(submission: Submission) -> bool:
    """Whether it may have been sent before, with an image worth asking about first."""
    return submission.request_id is not None and len(submission.image) > ASK_FIRST


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, then random bits."""
    stamp = time.time_ns() // 1_000_000
    value = stamp << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
