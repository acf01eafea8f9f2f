"""``/batch_inference``: many images in one call, each with its own outcome, followed as one thing.

An item that is bad in itself, or finds its lane full, is *rejected*: it never becomes a request, the others go on. The
request of item ``i`` has the id ``<batch_id>.<i>``, so sending a batch again under its Idempotency-Key replays it.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from flask import Response, request

from api.features.store import Batch, Member, Store
from api.features.webhooks import registration
from api.features.webhooks.outbox import batch_entry
from api.http import sse
from api.http.auth import spend_items
from api.http.correlation import add_headers, traceparent
from api.http.errors import from_task
from api.http.openapi import Answer, Operations, header
from api.http.problems import Problem, wrong_value
from api.input import intake, multipart
from api.routes.inference import (
    EVENTS,
    IMAGE_PROBLEMS,
    LAST_EVENT_ID,
    PREFER,
    REDIS,
    idempotency_key,
    preference,
)
from api.services import app_settings, service
from api.views.batch import batch_resource, item_resource
from api.views.examples import BATCH_BODY
from api.views.resources import reply, with_etag
from api.views.schemas import BatchAnswerSchema, BatchItemSchema, BatchSchema
from tasks.errors import AlreadyFinished, PurgedRequest, TaskError, TooManyWaiters, Unavailable, UnknownRequest
from tasks.producer.gateway import Gateway, uuid7
from worker_models.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from api.input.intake import Draft
    from tasks.producer.gateway import Submission
    from tasks.protocol.requests import Request

blueprint = Operations("batches", __name__, description="Classify many images and follow them together")

NDJSON = "application/x-ndjson"
ACCEPT_POST = "application/json, multipart/form-data"
#: Items whose answers are in memory at a time: each may have a thousand predictions.
PART = 16
#: What an item inherits from the batch when it does not say so itself.
SHARED = ("model_type", "priority", "deadline", "top_k")
HEADERS = {
    "Preference-Applied": "Which preference was honoured",
    "Idempotent-Replayed": "true when this key had been accepted before",
}


@blueprint.operation(
    "POST", "/batch_inference",
    (200, Answer("Every item has ended", BatchAnswerSchema, HEADERS)),
    (202, Answer("Accepted, not all ended yet", BatchSchema,
                 {"Location": "The batch", "Retry-After": "Seconds", **HEADERS})),
    problems=(*IMAGE_PROBLEMS, *REDIS), body=BATCH_BODY, operation_id="inferBatch",
    parameters=(PREFER, header("Idempotency-Key", "The same key with the same items gives the same batch")),
)  # fmt: skip
def post_batch() -> Response:
    """Classify many images.

    Waits for all of them by default, up to MAX_WAIT seconds, and answers with every item; otherwise answers 202 and the
    batch goes on. A bad item fails alone.
    """
    began = time.monotonic()
    key = idempotency_key()
    batch_id = key or str(uuid7())
    wish = preference()
    drafts, callback_url = _drafts()
    known = _known(batch_id, drafts) if key else None
    if callback_url:
        registration.register(callback_url, batch_entry(batch_id))
    members = _submit(batch_id, drafts)
    batch = Batch(known.created_at if known else time.time(), members, callback_url)
    service(Store).save_batch(batch_id, batch)
    if callback_url:
        registration.send_soon(batch_entry(batch_id))
    if wish.wait:
        _wait(members, began + wish.wait)
    records = _records(members)
    body = batch_resource(batch_id, batch, records)
    if body["status"] == "running" or not wish.wait:
        return reply(body, 202, {"Location": body["urls"]["self"], "Retry-After": "1"})
    body |= {"processing_time": round(time.monotonic() - began, 6)}
    return Response(_document(body, _results(members, seed=True)), mimetype="application/json")


def _document(body: Mapping[str, Any], parts: Iterator[list[str]]) -> Iterator[str]:
    """``body`` as JSON with the items of ``parts`` as its ``results``."""
    lead = json.dumps(body, separators=(",", ":"))[:-1] + ',"results":['
    for part in parts:
        yield lead + ",".join(part)
        lead = ","
    yield "]}"


def _known(batch_id: str, drafts: Sequence[Draft | Problem]) -> Batch | None:
    """The batch that this key stands for already; announces in the answer that it is sent again.

    Raises:
        Problem: ``idempotency_conflict``, the key stands for other items.
    """
    said = "\n".join(item.code if isinstance(item, Problem) else item.fingerprint() for item in drafts)
    if not service(Store).same_batch(batch_id, hashlib.sha256(said.encode()).hexdigest()):
        raise Problem("idempotency_conflict", "This Idempotency-Key was used with other items.")
    known = service(Store).batch(batch_id)
    if known is not None:
        add_headers({"Idempotent-Replayed": "true"})
    return known


def _drafts() -> tuple[list[Draft | Problem], str | None]:
    """The items of the current request, each a draft or what is wrong with it; and whom to tell at the end."""
    if request.mimetype == "application/json":
        return _from_json(intake.load_json(request))
    if request.mimetype == "multipart/form-data":
        return _from_form()
    raise intake.unsupported_media_type(request, ACCEPT_POST)


def _from_json(body: Mapping[str, Any]) -> tuple[list[Draft | Problem], str | None]:
    items = body.get("requests")
    if not isinstance(items, list):
        raise wrong_value("requests", "must be a list")
    _check_count("requests", len(items))
    limits = Limits.of(app_settings())
    defaults = intake.parameters({name: body.get(name) for name in (*SHARED, "callback_url")})
    callback_url = defaults.pop("callback_url", None)
    return [_attempt(partial(intake.from_json, item, limits, defaults), item) for item in items], callback_url


def _from_form() -> tuple[list[Draft | Problem], str | None]:
    form = multipart.read(intake.body(request), request.mimetype_params.get("boundary", ""))
    uploads = [part for part in form.files if part.name in {"image", "images"}]
    _check_count("image", len(uploads))
    limits = Limits.of(app_settings())
    values = {**request.args, **form.values()}
    shared = intake.parameters({name: values[name] for name in (*SHARED, "callback_url") if name in values})
    callback_url = shared.pop("callback_url", None)
    names = [value for name, value in form.fields if name == "custom_id"]
    found = []
    for index, upload in enumerate(uploads):
        named = {"custom_id": names[index] if index < len(names) else upload.filename or None}
        make = partial(_from_upload, upload.data, {**shared, **named}, limits)
        found.append(_attempt(make, named))
    return found, callback_url


def _from_upload(image: bytes, more: Mapping[str, Any], limits: Limits) -> Draft:
    return intake.draft(image, intake.parameters(more), limits)


def _attempt(make: Callable[[], Draft], item: Any) -> Draft | Problem:
    """The draft that ``make`` returns, or its problem with the item's own name attached."""
    try:
        return make()
    except Problem as problem:
        name = item.get("custom_id") if isinstance(item, dict) else None
        problem.members["custom_id"] = name if isinstance(name, str) else None
        return problem


def _check_count(name: str, count: int) -> None:
    """Refuse a batch that has too few or too many items, or more than its caller has calls left."""
    most = app_settings().max_batch_items
    if not 1 <= count <= most:
        raise wrong_value(name, f"must have 1 to {most} items, not {count}")
    spend_items(count)


def _submit(batch_id: str, drafts: Sequence[Draft | Problem]) -> list[Member]:
    """Hand in what can be; Redis being away refuses the whole batch, since nothing could follow it."""
    parent = traceparent()
    wanted = {index: _submission(item, batch_id, index, parent) for index, item in enumerate(drafts) if not _bad(item)}
    outcomes = iter(service(Gateway).submit_many(list(wanted.values())))
    return [_member(index, item, next(outcomes) if index in wanted else None) for index, item in enumerate(drafts)]


def _bad(item: Draft | Problem) -> bool:
    return isinstance(item, Problem)


def _submission(item: Draft | Problem, batch_id: str, index: int, parent: str) -> Submission:
    assert not isinstance(item, Problem)  # noqa: S101 - tells the type checker what _bad has checked
    return item.submission(request_id=f"{batch_id}.{index}", batch_id=batch_id, traceparent=parent, callback_url=None)


def _member(index: int, item: Draft | Problem, outcome: Any) -> Member:
    if isinstance(item, Problem):
        return Member(index, item.members["custom_id"], None, item.brief())
    name = item.parameters.get("custom_id")
    if isinstance(outcome, TaskError):
        return Member(index, name, None, from_task(outcome).brief())
    return Member(index, name, outcome.id)


def _wait(members: Sequence[Member], until: float) -> None:
    """Wait for all of them; what keeps us from waiting is no error, they are accepted."""
    ids = [member.request_id for member in members if member.request_id]
    with suppress(TooManyWaiters, Unavailable):
        service(Gateway).wait_many(ids, until - time.monotonic())


def _records(members: Sequence[Member], gateway: Gateway | None = None) -> dict[str, Request]:
    """The records that still exist, by id, as a list shows them.

    With ``gateway`` it can be called after the request context has gone.
    """
    return {record.id: record for record in (gateway or service(Gateway)).records.briefs(_ids(members))}


def _ids(members: Sequence[Member]) -> list[str]:
    return [member.request_id for member in members if member.request_id]


def _results(members: Sequence[Member], *, seed: bool = False) -> Iterator[list[str]]:
    """Every item as JSON, in parts; the first has been read when this returns, so that its errors can be answered."""
    records = service(Gateway).records

    def read(part: Sequence[Member]) -> list[str]:
        found = {record.id: record for record in records.get_many(_ids(part))}
        items = (item_resource(member, found, seed=seed) for member in part)
        return [json.dumps(item, separators=(",", ":"), allow_nan=False) for item in items]

    parts = (read(members[at : at + PART]) for at in range(0, len(members), PART))
    return chain([next(parts)], parts)


def known_batch(batch_id: str) -> Batch:
    """The batch.

    Raises:
        Problem: ``unknown_batch``.
    """
    found = service(Store).batch(batch_id)
    if found is None:
        raise Problem("unknown_batch", f"There is no batch {batch_id}, or it has expired.")
    return found


@blueprint.operation(
    "GET", "/batch_inference/<batch_id>",
    (200, Answer("The batch resource", BatchSchema, {"ETag": "Strong"})),
    (304, Answer("It is still what If-None-Match names", headers={"ETag": "Strong"})),
    problems=("unknown_batch", *REDIS), parameters=(PREFER, header("If-None-Match", "ETags the caller has")),
    operation_id="getBatch",
)  # fmt: skip
def get_batch(batch_id: str) -> Response:
    """Count how many items of a batch are where.

    ``Prefer: wait=n`` waits up to n seconds for the end of all of them before answering.
    """
    wish = preference(default=0)
    batch = known_batch(batch_id)
    if wish.wait:
        _wait(batch.members, time.monotonic() + wish.wait)
    body = batch_resource(batch_id, batch, _records(batch.members))
    return with_etag(reply(body), request.if_none_match)


@blueprint.operation(
    "GET", "/batch_inference/<batch_id>/results",
    (200, Answer("One JSON object per line, in the order sent", BatchItemSchema, media_type=NDJSON)),
    problems=("unknown_batch", *REDIS), operation_id="getBatchResults",
)  # fmt: skip
def get_results(batch_id: str) -> Response:
    """Every item of a batch as NDJSON; those that have not ended say queued or running."""
    parts = _results(known_batch(batch_id).members)
    return Response(("\n".join(part) + "\n" for part in parts), mimetype=NDJSON)


@blueprint.operation(
    "POST", "/batch_inference/<batch_id>/cancel",
    (200, Answer("The batch resource afterwards", BatchSchema)),
    problems=("unknown_batch", *REDIS), operation_id="cancelBatch",
)  # fmt: skip
def cancel_batch(batch_id: str) -> Response:
    """Cancel every item that has not ended."""
    batch = known_batch(batch_id)
    for record in _records(batch.members).values():
        if not record.state.terminal:
            _cancel(record.id)
    return reply(batch_resource(batch_id, batch, _records(batch.members)))


def _cancel(request_id: str) -> None:
    try:
        service(Gateway).cancel(request_id)
    except (AlreadyFinished, UnknownRequest, PurgedRequest):
        return  # it ended while we were looking


@blueprint.operation(
    "GET", "/batch_inference/<batch_id>/events", *EVENTS,
    problems=("unknown_batch", "too_many_waiters", *REDIS), parameters=(LAST_EVENT_ID,), operation_id="batchEvents",
)  # fmt: skip
def batch_events(batch_id: str) -> Response:
    """Follow a batch.

    An event `progress` with the batch resource whenever more items have ended, the last one named `end`.
    """
    gateway = service(Gateway)
    batch = known_batch(batch_id)
    members = batch.members

    def look(seen: int, wait: float) -> tuple[list[sse.Event], bool]:
        records = _records(members, gateway)
        waiting = next((record for record in records.values() if not record.state.terminal), None)
        if waiting is not None:
            gateway.wait(waiting.id, wait)
            records = _records(members, gateway)
        body = batch_resource(batch_id, batch, records)
        over = body["status"] == "completed"
        ended = len(members) - body["counts"]["queued"] - body["counts"]["running"]
        return [sse.Event(ended, "end" if over else "progress", body)] if ended > seen else [], over

    return sse.stream(look, app_settings().max_wait)
