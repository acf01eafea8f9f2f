"""Reads the items of a batch from a body and submits them.

An invalid item, or one whose lane is full, is *rejected*: it never becomes a request, the others go on. The
request of item ``i`` has the id ``<batch_id>.<i>``, so sending a batch again under its Idempotency-Key replays it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from flask import request

from api.features.batches.store import Batch, Batches, Member
from api.http.correlation import add_headers, traceparent
from api.http.errors import from_task
from api.http.problems import Problem, wrong_value
from api.http.rate_limit import spend_items
from api.input import intake, multipart
from api.input.intake import Draft
from api.services import app_settings, service
from tasks.errors import TaskError
from tasks.producer.gateway import Accepted, Gateway
from tasks.protocol.owners import public_id
from worker_models.limits import Limits

Item = Draft | Problem
Items = tuple[list[Item], str | None]

ACCEPT_POST = "application/json, multipart/form-data"
#: Parameters that items inherit from the batch; and those of the batch alone.
SHARED = ("model_type", "priority", "deadline", "top_k", "callback_url")


def read() -> Items:
    """The items of the current request, each a draft or its problem; and the batch's callback URL."""
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
    except Problem as problem:
        name = item.get("custom_id") if isinstance(item, dict) else None
        problem.members["custom_id"] = name if isinstance(name, str) else None
        return problem


def _check_count(name: str, count: int) -> None:
    """Refuse a batch with too few or too many items, or with more than the caller's rate limit has left."""
    most = app_settings().max_batch_items
    if not 1 <= count <= most:
        raise wrong_value(name, f"must have 1 to {most} items, not {count}")
    spend_items(count)


def known(batch_id: str, items: Sequence[Item]) -> Batch | None:
    """The existing batch of this key; marks the answer as a replay.

    Raises:
        Problem: ``idempotency_conflict``, the key belongs to other items.
    """
    prints = "\n".join(item.code if isinstance(item, Problem) else item.fingerprint() for item in items)
    if not service(Batches).has_items(batch_id, hashlib.sha256(prints.encode()).hexdigest()):
        raise Problem("idempotency_conflict", "This Idempotency-Key was used with other items.")
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
        _rejected(index, item) if isinstance(item, Problem) else _submitted(index, item, next(outcomes))
        for index, item in enumerate(items)
    ]


def _rejected(index: int, problem: Problem) -> Member:
    return Member(index, problem.members["custom_id"], None, problem.brief())


def _submitted(index: int, draft: Draft, outcome: Accepted | TaskError) -> Member:
    name = draft.parameters.get("custom_id")
    if isinstance(outcome, TaskError):
        return Member(index, name, None, from_task(outcome).brief())
    return Member(index, name, outcome.id)
