"""Admission: the lane of a request, its expected wait, and what refuses it (the API's 503)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from uuid import UUID

from common.settings import Settings
from tasks.errors import (
    BrokerUnavailable,
    DeadlineHopeless,
    LaneFull,
    NotAccepted,
    QuotaExceeded,
    TooManyOpen,
    UnsupportedModel,
)
from tasks.lanes import ANY, PATIENCE, PRIORITIES, STRATEGIES, lane, room
from tasks.producer.live_workers import LiveWorkers
from tasks.protocol import usage
from tasks.protocol.connections import translated
from tasks.protocol.owners import ANONYMOUS, internal_id, weights
from tasks.protocol.records import Records

#: Retry-After in seconds while no worker has measured its service time.
UNMEASURED = 5.0
#: The share of its Retry-After for which a refusal stands.
STANDING = 0.05
#: Seconds for which the key of a write test stays.
PROBE_TTL = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request to be accepted. ``deadline`` is seconds from now; ``image`` the bytes of one image file.

    ``request_id`` and ``batch_id`` are public ids; those of :class:`Admitted` are internal.
    """

    image: bytes
    owner: str = ANONYMOUS
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
class Admitted:
    """A submission with its id, lane and expected wait; accepted once ``accept.lua`` has stored it."""

    id: str
    lane: str
    model: str
    submission: Submission
    wait: float | None


class Admission:
    """Chooses lanes and refuses what cannot be served; thread-safe."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self._settings = settings
        self._client, self._keys, self._payloads = records.client, records.keys, records.payloads
        self._live_workers = LiveWorkers(self._client, self._keys, weights(settings.api_keys))
        self._choose = STRATEGIES[settings.any_strategy]()

    def admit(self, submission: Submission) -> Admitted:
        """Choose the lane.

        Raises:
            UnsupportedModel: no worker serves this model.
            DeadlineHopeless: the expected wait exceeds the deadline.
            LaneFull: it exceeds MAX_QUEUE_WAIT.
            BrokerUnavailable: Redis does not answer.
        """
        if submission.priority not in PRIORITIES:
            raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}, not {submission.priority!r}")
        model = self._model_for(submission.model_type)
        wait = self._live_workers.load().expected_wait(model, submission.priority, submission.owner)
        request_id = internal_id(submission.owner, submission.request_id or str(uuid7()))
        if wait is not None:
            self._check_wait(wait, submission, request_id, model)
        return Admitted(request_id, lane(submission.priority, model), model, submission, wait)

    def _check_wait(self, wait: float, submission: Submission, request_id: str, model: str) -> None:
        most, deadline = self._settings.max_queue_wait * PATIENCE[submission.priority], submission.deadline
        if deadline is not None and wait > deadline:
            refusal: NotAccepted = DeadlineHopeless(
                f"the expected wait is {wait:.1f} s, longer than the deadline of {deadline:g} s"
            ).after(wait - deadline)
        elif most and wait > most:
            refusal = LaneFull(
                f"the expected wait is {wait:.0f} s, more than {most:g} s for {submission.priority} (MAX_QUEUE_WAIT)"
            ).after(wait - most)
        else:
            return
        if submission.request_id and self.known(request_id):
            return  # accept.lua replays it
        self.count_refused(submission.owner, model)
        raise _standing(refusal, submission, model)

    def known(self, request_id: str) -> bool:
        """Whether a request was accepted before."""
        with translated():
            return bool(self._client.exists(self._keys.request(request_id)))

    def count_refused(self, owner: str, model: str, number: int = 1) -> None:
        """Count requests that were refused before any script saw them."""
        with translated():
            self._client.hincrby(self._keys.counters, "refused", number)
            usage.refuse(self._client, self._keys, owner, model, number)

    def _model_for(self, model_type: str) -> str:
        live = self._live_workers.load().models
        if model_type == ANY:
            return self._choose(live) if live else ANY
        if model_type not in self._settings.models and model_type not in live:
            known = ", ".join(sorted({*self._settings.models, *live, ANY}))
            raise UnsupportedModel(f"no model {model_type!r}; there are {known}")
        return model_type

    def limits(self, submission: Submission) -> tuple[int, int, int, str]:
        """Limits of ``accept.lua``: requests in the model's lanes, in this lane alone, bytes of images, the owner's."""
        allowance = self._live_workers.load().allowances.of(submission.owner, self._settings)
        return *room(submission.priority, self._settings.max_queue), self._max_image_bytes(), allowance

    def full(self, entry: Admitted, *, of_images: bool) -> NotAccepted:
        """The refusal of a request whose lanes are full or, with ``of_images``, whose image has no room."""
        live = self._live_workers.load()
        wait = live.expected_wait(entry.model, entry.submission.priority, entry.submission.owner) or UNMEASURED
        if of_images:
            why = "the images of open requests have reached the limit (MAX_QUEUE_BYTES)"
        else:
            paused = f", and {entry.lane} is paused" if entry.lane in live.paused else ""
            why = f"the lanes of {entry.model} are full for {entry.submission.priority}{paused}"
        refusal = LaneFull(why).after(wait / 2)
        return refusal if of_images else _standing(refusal, entry.submission, entry.model)

    def over_cap(self, entry: Admitted, count: int) -> TooManyOpen:
        """The refusal of a request whose owner has ``count`` open ones."""
        live, owner = self._live_workers.load(), entry.submission.owner
        cap = live.allowances.cap(owner, self._settings)
        refusal = TooManyOpen(f"{count} requests of {owner} are queued or running, the most allowed is {cap}")
        return refusal.after(live.next_end(owner) or UNMEASURED, open=count, limit=cap)

    def over_quota(self, entry: Admitted, used: int) -> QuotaExceeded:
        """The refusal of a request whose owner has sent ``used`` images this month."""
        allowances, owner = self._live_workers.load().allowances, entry.submission.owner
        quota, resets = allowances.quota(owner, self._settings), allowances.resets
        refusal = QuotaExceeded(f"{owner} has sent {used} of {quota} images this month")
        seconds, at = resets.timestamp() - time.time(), f"{resets:%Y-%m-%dT%X.000Z}"
        return refusal.after(seconds, used=used, limit=quota, resets=at)

    def refusal(self) -> str:
        """Why Redis or the payload store takes no writes now; empty when they do."""
        try:
            with translated():
                self._client.set(self._keys.probe, "", nx=True, ex=PROBE_TTL)
        except BrokerUnavailable as error:
            return str(error)
        return self._payloads.refusal()

    def image_bytes(self) -> tuple[int, int]:
        """Bytes of images of open requests, and their limit; 0 for none."""
        with translated():
            return int(self._client.get(self._keys.image_bytes) or 0), self._max_image_bytes()

    def _max_image_bytes(self) -> int:
        most = 0 if self._payloads.outside else self._live_workers.load().memory // 2
        return self._settings.max_queue_bytes or most


def _standing(refusal: NotAccepted, submission: Submission, model: str) -> NotAccepted:
    """The refusal; it stands if the submission alone decides the lane, and only while that lane stays busy."""
    if submission.model_type == model:
        refusal.stands = STANDING * (refusal.retry_after or 0.0)
    return refusal


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, then random bits."""
    stamp = time.time_ns() // 1_000_000
    value = stamp << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)
