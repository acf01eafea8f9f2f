"""Publishing: ``accept.lua`` stores record, image, ledger entry and message of a request in one step, or nothing."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from common.settings import Settings
from tasks import errors
from tasks.errors import BrokerUnavailable, Full, TaskError
from tasks.lanes import PRIORITIES, lane
from tasks.producer.admission import Admission, Admitted, Submission
from tasks.protocol import envelope, scripts
from tasks.protocol.connections import translated
from tasks.protocol.owners import ANONYMOUS, public_id
from tasks.protocol.records import Records
from tasks.protocol.requests import State

#: Seconds after a refusal in which this process asks for room before it sends images.
WARY = 2.0
#: Codes of ``accept.lua`` for a request, each with the state of its record; then those of refusals, the last two with
#: the used part of the owner's allowance.
ACCEPTED, REPLAYED, ANOTHER_BODY, WOULD = 1, 0, -1, 2
NO_ROOM, NO_ROOM_FOR_IMAGE, OVER_CAP, OVER_QUOTA = -2, -3, -4, -5
Answer = tuple[int, bytes]
#: Seconds for which an uploaded image waits to be accepted; it expires only if the producer dies in between.
UPLOAD_TTL = 60
#: Seconds for which an owner stays introduced.
INTRODUCTION = 60.0
#: Bytes of an image from which asking whether its request is known costs less than sending it for nothing.
ASK_FIRST = 262_144
#: For a caller whose call lost Redis in the middle.
UNKNOWN = "Whether it was accepted is unknown: send it again with the same request_id or Idempotency-Key"

Trace = Callable[[Sequence[Submission]], AbstractContextManager[Sequence[Submission]]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A promise: the request ends exactly once. ``replayed`` if the same id and body were accepted before."""

    id: str
    replayed: bool
    state: State


class Publisher:
    """Accepts requests; thread-safe.

    ``trace`` wraps every publishing; its context yields the submissions to publish instead of those given.
    """

    def __init__(self, settings: Settings, admission: Admission, records: Records, trace: Trace = nullcontext) -> None:
        self._chunk = settings.batch_chunk
        self._admission = admission
        self._records = records
        self._trace = trace
        self._wary: dict[tuple[str, str], float] = {}
        self._introduced: dict[str, float] = {}

    def submit(self, submission: Submission, reply: str = "") -> Accepted:
        """Accept one request; the reply list ``reply`` is notified when it ends.

        Raises:
            UnsupportedModel: no worker serves this model.
            LaneFull, DeadlineHopeless: refused, nothing stored; ``retry_after`` says when to try again.
            IdReused: the id was used with another body.
            BrokerUnavailable: Redis does not answer.
        """
        answer = self.submit_many([submission], reply)[0]
        if isinstance(answer, TaskError):
            raise answer
        return answer

    def submit_many(self, items: Sequence[Submission], reply: str = "") -> list[Accepted | TaskError]:
        """Accept many, each with its own outcome; those of one lane travel as one message per BATCH_CHUNK requests.

        Raises:
            Full: Redis has no memory; nothing was accepted. If some were accepted, it is the outcome of the others.
            BrokerUnavailable: Redis does not answer. Some may be accepted; sending their ids again is safe.
        """
        outcomes: dict[str, Accepted | TaskError] = {}
        with self._trace(items) as traced:
            admitted = [self._admitted(submission) for submission in traced]
            for chunk in self._chunks([entry for entry in admitted if isinstance(entry, Admitted)]):
                try:
                    answers = self._accept(chunk, reply)
                except Full as error:
                    if not any(isinstance(outcome, Accepted) for outcome in outcomes.values()):
                        raise
                    answers = [error] * len(chunk)
                outcomes.update(zip((entry.id for entry in chunk), answers, strict=True))
        return [outcomes[entry.id] if isinstance(entry, Admitted) else entry for entry in admitted]

    def _admitted(self, submission: Submission) -> Admitted | TaskError:
        try:
            return self._admission.admit(submission)
        except (errors.UnsupportedModel, errors.DeadlineHopeless, errors.LaneFull) as error:
            return error

    def submit_all(self, items: Sequence[Submission]) -> list[str]:
        """Accept all of these or none; their ids.

        It asks for room for all of them first; if others take it meanwhile, those accepted are canceled.

        Raises:
            UnsupportedModel, LaneFull, DeadlineHopeless, IdReused: refused; none of them runs.
            BrokerUnavailable: Redis does not answer; some of them may run.
        """
        accepted: list[str] = []
        with self._trace(items) as traced:
            entries = [self._admission.admit(submission) for submission in traced]
            for members in _by_lane(entries):
                answers = self._run_accept(members, ask=True)
                if refused := _uncounted(answers):
                    self._admission.count_refused(members[0].submission.owner, members[0].model, refused)
                self._raise_refusal(members, answers)
            for chunk in self._chunks(entries):
                answers = self._run_accept(chunk)
                accepted += [entry.id for entry, (code, _) in zip(chunk, answers, strict=True) if code == ACCEPTED]
                try:
                    self._raise_refusal(chunk, answers)
                except TaskError:
                    self._withdraw(accepted)
                    raise
        return [entry.id for entry in entries]

    def _raise_refusal(self, entries: Sequence[Admitted], answers: Sequence[Answer]) -> None:
        for entry, answer in zip(entries, answers, strict=True):
            if refusal := self._refusal(entry, answer):
                raise refusal

    def _withdraw(self, ids: Sequence[str]) -> None:
        for request_id in ids:
            with suppress(errors.HasEnded, errors.PurgedRequest, errors.UnknownRequest):
                self._records.cancel(request_id)

    def _chunks(self, entries: Sequence[Admitted]) -> Iterator[Sequence[Admitted]]:
        """Groups of one lane, each small enough for one message."""
        for members in _by_lane(entries):
            for start in range(0, len(members), self._chunk):
                yield members[start : start + self._chunk]

    def _accept(self, entries: Sequence[Admitted], reply: str = "") -> list[Accepted | TaskError]:
        """Accept requests of one lane.

        Soon after a refusal, and for an id that may be known, it asks for room before it sends images.
        """
        where = entries[0].lane, entries[0].submission.owner
        answers: list[Answer] = []
        if time.monotonic() < self._wary.get(where, 0.0) or any(_may_be_known(entry.submission) for entry in entries):
            answers = self._run_accept(entries, ask=True)
        if not answers or any(code == WOULD for code, _ in answers):
            answers = self._run_accept(entries, reply)
        if any(code <= NO_ROOM for code, _ in answers):
            self._wary[where] = time.monotonic() + WARY
        return [
            self._refusal(entry, (code, state)) or Accepted(entry.id, code == REPLAYED, State(state.decode()))
            for entry, (code, state) in zip(entries, answers, strict=True)
        ]

    def _run_accept(self, entries: Sequence[Admitted], reply: str = "", *, ask: bool = False) -> list[Answer]:
        """Run ``accept.lua`` for requests of one lane, as one message; ``ask`` accepts nothing and sends no image."""
        first, keys = entries[0], self._records.keys
        message = "" if ask else envelope.seal(first.lane, [entry.id for entry in entries])
        limits = self._admission.limits(first.submission)
        backlog = [lane(priority, first.model) for priority in PRIORITIES]
        args: list[Any] = [keys.prefix, first.lane, message, *limits, reply, len(backlog), *backlog]
        before = [] if ask else self._introduce(first.submission.owner)
        payloads = [""] * len(entries) if ask else self._store(entries)
        for entry, payload in zip(entries, payloads, strict=True):
            upload = "" if ask or payload else self._upload(entry)
            if upload:
                before.append(("SET", upload, entry.submission.image, "NX", "EX", UPLOAD_TTL))
            args += [*_fields(entry), payload, upload]
        try:
            with translated():
                answers: list[Answer] = list(
                    scripts.run_after(self._records.pinned, before, "accept", keys.lane_and_bell(first.lane), args)
                )
        except Full:
            self._records.payloads.delete([*filter(None, payloads)])
            raise
        except BrokerUnavailable as error:
            raise error if ask else BrokerUnavailable(f"{error}. {UNKNOWN}") from error
        unused = [name for name, (code, _) in zip(payloads, answers, strict=True) if name and code != ACCEPTED]
        self._records.payloads.delete(unused)
        self._count(first.lane, sum(code == ACCEPTED for code, _ in answers))
        return answers

    def _upload(self, entry: Admitted) -> str:
        """The key of an uploaded image: that of its request, if no other call can have its id."""
        keys = self._records.keys
        return keys.image(entry.id) if entry.submission.request_id is None else keys.upload(os.urandom(16).hex())

    def _introduce(self, owner: str) -> list[tuple[Any, ...]]:
        """The command that adds an owner to the known ones; repeated every minute, because Redis may lose them."""
        now = time.monotonic()
        if owner == ANONYMOUS or now < self._introduced.get(owner, 0.0):
            return []
        self._introduced[owner] = now + INTRODUCTION
        return [("SADD", self._records.keys.owners, owner)]

    def _count(self, lane_name: str, accepted: int) -> None:
        if accepted:
            self._records.statistics.add(f"{accepted} minute:{int(time.time() // 60)} {lane_name}:accepted".encode())
            self._records.statistics.flush_later(self._records.client, self._records.keys.prefix)

    def _store(self, entries: Sequence[Admitted]) -> list[str]:
        """Store their images outside Redis, all or none; empty references where images are sent to Redis."""
        stored: list[str] = []
        try:
            for entry in entries:
                stored += [self._records.payloads.put(entry.submission.image)]
        except BrokerUnavailable:
            self._records.payloads.delete(stored)
            raise
        return stored

    def _refusal(self, entry: Admitted, answer: Answer) -> TaskError | None:
        code, count = answer
        if code == ANOTHER_BODY:
            return errors.IdReused(f"request {public_id(entry.id)} was accepted before with another body")
        if code == OVER_CAP:
            return self._admission.over_cap(entry, int(count))
        if code == OVER_QUOTA:
            return self._admission.over_quota(entry, int(count))
        if code in {NO_ROOM, NO_ROOM_FOR_IMAGE}:
            return self._admission.full(entry, of_images=code == NO_ROOM_FOR_IMAGE)
        return None


def _uncounted(answers: Sequence[Answer]) -> int:
    """Refusals among the answers to a dry run that ``accept.lua`` leaves to the real call: it found room for others."""
    codes = [code for code, _ in answers]
    return sum(code <= NO_ROOM for code in codes) if WOULD in codes else 0


def _by_lane(entries: Sequence[Admitted]) -> list[list[Admitted]]:
    lanes: dict[str, list[Admitted]] = defaultdict(list)
    for entry in entries:
        lanes[entry.lane].append(entry)
    return list(lanes.values())


def _fields(entry: Admitted) -> list[Any]:
    """One request as ``accept.lua`` takes it, without its image."""
    submission = entry.submission
    spec: dict[str, Any] = {"top_k": submission.top_k}
    if submission.model_type != entry.model:
        spec["model_type"] = submission.model_type
    for name in ("traceparent", "batch_id", "custom_id", "callback_url"):
        if (value := getattr(submission, name)) is not None:
            spec[name] = value
    return [
        entry.id,
        envelope.compact(spec),
        submission.fingerprint or "",
        "" if submission.deadline is None else submission.deadline,
        "" if entry.wait is None else round(entry.wait, 3),
        len(submission.image),
    ]


def _may_be_known(submission: Submission) -> bool:
    """Whether it may have been sent before, with an image so large that asking first pays."""
    return submission.request_id is not None and len(submission.image) > ASK_FIRST
