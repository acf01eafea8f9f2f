"""Batches: many images in one call, one request each.

The items' order, names and rejections are kept here; their states are read from the requests that still exist. An
invalid item, or one whose lane is full, is *rejected*: it never becomes a request, and the others go on. The
request of item ``i`` has the id ``<batch_id>.<i>``, so sending a batch again under its Idempotency-Key replays it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flask import request

from api.http.correlation import add_headers, traceparent
from api.http.errors import from_task
from api.http.problems import HttpProblem, wrong_value
from api.http.rate_limit import spend_items
from api.input import intake, multipart
from api.input.intake import Draft
from api.services import app_settings, service
from api.views.resources import latency_ms, retries, seed_status, timestamp
from common.settings import Settings
from tasks.errors import TaskError
from tasks.producer.gateway import Accepted, Gateway
from tasks.protocol.connections import prompt, translated
from tasks.protocol.owners import owner_of, public_id
from tasks.protocol.requests import Request, State
from worker_models.limits import Limits

Records = Mapping[str, Request]
Item = Draft | HttpProblem
Items = tuple[list[Item], str | None]

ACCEPT_POST = "application/json, multipart/form-data"
#: Parameters that items inherit from the batch; and those of the batch alone.
SHARED = ("model_type", "priority", "deadline", "top_k", "callback_url")


@dataclass(frozen=True, slots=True)
class Member:
    """One item of a batch: its request, or the error that rejected it."""

    index: int
    custom_id: str | None
    request_id: str | None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch: ``created_at`` in epoch seconds, its members in the order sent, the webhook to send at its end."""

    created_at: float
    members: Sequence[Member]
    callback_url: str | None = None

    @property
    def request_ids(self) -> list[str]:
        """The ids of the accepted members."""
        return [member.request_id for member in self.members if member.request_id]


class Batches:
    """All batches. Every method raises :class:`tasks.errors.BrokerUnavailable` when Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._prefix = f"{settings.key_prefix}api:"
        self._keep = self._redis.register_script((Path(__file__).parent / "keep.lua").read_text())
        self._ttl = max(settings.result_ttl, settings.failure_ttl)

    def has_items(self, batch_id: str, fingerprint: str) -> bool:
        """Whether the batch of this id has these items; true for a new id."""
        key = f"{self._prefix}batch_items:{batch_id}"
        with translated():
            known = self._redis.set(key, fingerprint, nx=True, get=True, ex=self._ttl)
        return known is None or known == fingerprint.encode()

    def save(self, batch_id: str, batch: StoredBatch) -> None:
        """Keep a batch."""
        with translated():
            self._keep(keys=[f"{self._prefix}batch:{batch_id}"], args=[json.dumps(asdict(batch)), self._ttl])

    def batch(self, batch_id: str) -> StoredBatch | None:
        """The batch; None when it is not known."""
        with translated():
            text = self._redis.get(f"{self._prefix}batch:{batch_id}")
        if text is None:
            return None
        kept = json.loads(text)
        return StoredBatch(**kept | {"members": [Member(**member) for member in kept["members"]]})


def read() -> Items:
    """The items of the current request, each a draft or a problem, and the batch's callback URL."""
    if request.mimetype == "application/json":
        return _from_json(intake.load_json(request))
    if request.mimetype == "multipart/form-data":
        return _from_form()
    raise intake.unsupported_media_type(request, ACCEPT_POST)


def _from_json(body: Mapping[str, Any]) -> Items:
    items = body.get("requests")
    if not isinstance(items, list):
        raise wrong_value("requests", "must be a list")
    _check_count("requests", len(items))
    limits = Limits.of(app_settings())
    shared, callback_url = _shared(body)
    return [_attempt(partial(intake.from_json, item, limits, shared), item) for item in items], callback_url


def _from_form() -> Items:
    form = multipart.read(intake.body(request), request.mimetype_params.get("boundary", ""))
    uploads = [part for part in form.files if part.name in multipart.FILES]
    _check_count("image", len(uploads))
    limits = Limits.of(app_settings())
    shared, callback_url = _shared({**request.args, **form.values()})
    names = [value for name, value in form.fields if name == "custom_id"]
    found = []
    for index, upload in enumerate(uploads):
        named = {"custom_id": names[index] if index < len(names) else upload.filename or None}
        found.append(_attempt(partial(_from_upload, upload.data, {**shared, **named}, limits), named))
    return found, callback_url


def _shared(given: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    shared = intake.parameters({name: given.get(name) for name in SHARED})
    callback_url = shared.pop("callback_url", None)
    return shared, callback_url


def _from_upload(image: bytes, more: Mapping[str, Any], limits: Limits) -> Draft:
    return intake.draft(image, intake.parameters(more), limits)


def _attempt(make: Callable[[], Draft], item: Any) -> Item:
    """The draft that ``make`` returns, or its problem with the item's own name attached."""
    try:
        return make()
    except HttpProblem as problem:
        name = item.get("custom_id") if isinstance(item, dict) else None
        problem.members["custom_id"] = name if isinstance(name, str) else None
        return problem


def _check_count(name: str, count: int) -> None:
    """Refuse a batch with too few or too many items, or with more than the caller's rate limit has left."""
    most = app_settings().max_batch_items
    if not 1 <= count <= most:
        raise wrong_value(name, f"must have 1 to {most} items, not {count}")
    spend_items(count)


def known(batch_id: str, items: Sequence[Item]) -> StoredBatch | None:
    """The existing batch of this key; marks the answer as a replay.

    Raises:
        HttpProblem: ``idempotency_conflict``, the key belongs to other items.
    """
    prints = "\n".join(item.code if isinstance(item, HttpProblem) else item.fingerprint() for item in items)
    if not service(Batches).has_items(batch_id, hashlib.sha256(prints.encode()).hexdigest()):
        raise HttpProblem("idempotency_conflict", "This Idempotency-Key was used with other items.")
    found = service(Batches).batch(batch_id)
    if found is not None:
        add_headers({"Idempotent-Replayed": "true"})
    return found


def submit(batch_id: str, items: Sequence[Item]) -> list[Member]:
    """Submit the valid items; without Redis the whole batch is refused."""
    public = public_id(batch_id)
    more = {"batch_id": public, "traceparent": traceparent(), "callback_url": None}
    good = [(f"{public}.{index}", item) for index, item in enumerate(items) if isinstance(item, Draft)]
    outcomes = iter(service(Gateway).submit_many([draft.submission(request_id=name, **more) for name, draft in good]))
    return [
        Member(index, item.members["custom_id"], None, item.brief())
        if isinstance(item, HttpProblem)
        else _submitted(index, item, next(outcomes))
        for index, item in enumerate(items)
    ]


def _submitted(index: int, draft: Draft, outcome: Accepted | TaskError) -> Member:
    name = draft.parameters.get("custom_id")
    if isinstance(outcome, TaskError):
        return Member(index, name, None, from_task(outcome).brief())
    return Member(index, name, outcome.id)


def batch_resource(batch_id: str, batch: StoredBatch, records: Records) -> dict[str, Any]:
    """The batch resource, given the records of its members that still exist."""
    counts = Counter(_word(member, records) for member in batch.members)
    path = f"/batch_inference/{public_id(batch_id)}"
    return {
        "batch_id": public_id(batch_id),
        "owner": owner_of(batch_id),
        "status": "running" if counts["queued"] + counts["running"] else "completed",
        "counts": {"total": len(batch.members)}
        | {name: counts[name] for name in (*map(str, State), "rejected", "purged")},
        "created_at": timestamp(batch.created_at),
        "urls": {"self": path, **{name: f"{path}/{name}" for name in ("results", "cancel", "events")}},
    }


def _word(member: Member, records: Records) -> str:
    if member.request_id is None:
        return "rejected"
    record = records.get(member.request_id)
    return str(record.state) if record else "purged"


def item_resource(member: Member, records: Records, *, seed: bool = False) -> dict[str, Any]:
    """One item with its answer or its error; ``seed`` for the statuses of the synchronous answer."""
    record = records.get(member.request_id or "")
    status = _word(member, records)
    if seed:
        status = seed_status(record.state) if record else "failed"
    found: dict[str, Any] = {
        "index": member.index,
        "custom_id": member.custom_id,
        "request_id": member.request_id and public_id(member.request_id),
        "status": status,
        "error": member.error,
        "predictions": [],
    }
    names = ("model_type", "model", "weights", "worker_id")
    if record is None:
        return found | dict.fromkeys((*names, "processing_time", "latency_ms", "timestamp")) | {"retries": 0}
    found |= {name: getattr(record, name) for name in names}
    return found | {
        "error": record.error or _end(record),
        "predictions": record.predictions or [],
        "processing_time": record.timings.get("total"),
        "latency_ms": latency_ms(record),
        "retries": retries(record),
        "timestamp": timestamp(record.completed_at or record.created_at),
    }


def _end(record: Request) -> dict[str, Any] | None:
    """The error of a request that ended without a failure of the model."""
    if record.state not in {State.CANCELED, State.EXPIRED}:
        return None
    return {"code": str(record.state), "message": f"The request was {record.state}.", "retryable": False}
