"""``/batch_inference``: many images in one call, each with its own outcome."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from flask import Response, g, request

from api.features import batches
from api.features.batches import Batches, Member, StoredBatch, batch_resource, item_resource
from api.features.webhooks import registration
from api.features.webhooks.outbox import batch_entry
from api.http import declared, sse
from api.http.openapi import Answer, Operations, header
from api.http.prefer import preference
from api.http.problems import HttpProblem
from api.input.bodies import BATCH_BODY
from api.input.intake import idempotency_key
from api.services import app_settings, service
from api.views.resources import reply, with_etag
from tasks.errors import BrokerUnavailable, HasEnded, PurgedRequest, TooManyWaiters, UnknownRequest
from tasks.producer.gateway import Gateway, uuid7
from tasks.protocol.owners import internal_id, public_id
from tasks.protocol.requests import Request

blueprint = Operations("batches", __name__, description="Classify many images and follow them together")

NDJSON = "application/x-ndjson"
#: Items whose answers are in memory at a time: each may have a thousand predictions.
PART = 16
ONE = ("unknown_batch",)
HEADERS = {
    "Preference-Applied": "Which preference was honoured",
    "Idempotent-Replayed": "true when this key had been accepted before",
}


@blueprint.operation(
    "POST", "/batch_inference",
    Answer("Every item has ended", "BatchAnswer", HEADERS),
    Answer("Accepted, not all ended yet", "Batch", {"Location": "The batch", "Retry-After": "Seconds", **HEADERS},
           status=202),
    problems=declared.IMAGE_BODY, body=BATCH_BODY,
    parameters=(declared.PREFER, header("Idempotency-Key", "The same key with the same items gives the same batch")),
)  # fmt: skip
def infer_batch() -> Response:
    """Classify many images.

    Waits for all of them by default, up to MAX_WAIT seconds, and answers with every item; otherwise answers 202 and the
    batch goes on. A bad item fails alone.
    """
    began = time.monotonic()
    key, wish = idempotency_key(), preference()
    batch_id = internal_id(g.owner, key or str(uuid7()))
    items, callback_url = batches.read()
    known = batches.known(batch_id, items) if key else None
    if callback_url:
        registration.register(callback_url, batch_entry(batch_id))
    batch = StoredBatch(known.created_at if known else time.time(), batches.submit(batch_id, items), callback_url)
    service(Batches).save(batch_id, batch)
    if callback_url:
        registration.send_soon(batch_entry(batch_id))
    if wish.wait:
        _wait(batch, began + wish.wait)
    body = batch_resource(batch_id, batch, _records(batch, service(Gateway)))
    if body["status"] == "running" or not wish.wait:
        return reply(body, 202, {"Location": body["urls"]["self"], "Retry-After": "1"})
    body |= {"processing_time": round(time.monotonic() - began, 6)}
    return Response(_document(body, _results(batch.members, seed=True)), mimetype="application/json")


def _document(body: Mapping[str, Any], parts: Iterator[list[str]]) -> Iterator[str]:
    """``body`` as JSON with the items of ``parts`` as its ``results``."""
    lead = json.dumps(body, separators=(",", ":"))[:-1] + ',"results":['
    for part in parts:
        yield lead + ",".join(part)
        lead = ","
    yield "]}"


def _wait(batch: StoredBatch, until: float) -> None:
    """Wait for all of them; being unable to wait is no error, since they are accepted."""
    with suppress(TooManyWaiters, BrokerUnavailable):
        service(Gateway).wait_many(batch.request_ids, until - time.monotonic())


def _records(batch: StoredBatch, gateway: Gateway) -> dict[str, Request]:
    """The records that still exist, by id, as a list shows them."""
    return {record.id: record for record in gateway.records.briefs(batch.request_ids)}


def _results(members: Sequence[Member], *, seed: bool = False) -> Iterator[list[str]]:
    """Every item as JSON, in parts; the first is read before this returns, so that its errors can be answered."""
    records = service(Gateway).records

    def read(part: Sequence[Member]) -> list[str]:
        ids = [member.request_id for member in part if member.request_id]
        found = {record.id: record for record in records.get_many(ids)}
        items = (item_resource(member, found, seed=seed) for member in part)
        return [json.dumps(item, separators=(",", ":"), allow_nan=False) for item in items]

    parts = (read(members[at : at + PART]) for at in range(0, len(members), PART))
    return chain([next(parts)], parts)


def _known_batch(batch_id: str) -> StoredBatch:
    """The batch; a problem if there is none."""
    found = service(Batches).batch(batch_id)
    if found is None:
        raise HttpProblem("unknown_batch", f"There is no batch {public_id(batch_id)}, or it has expired.")
    return found


@blueprint.operation(
    "GET", "/batch_inference/<batch_id>",
    Answer("The batch resource", "Batch", declared.ETAG), declared.NOT_MODIFIED,
    problems=ONE, parameters=(declared.PREFER, declared.IF_NONE_MATCH),
)  # fmt: skip
def get_batch(batch_id: str) -> Response:
    """Get a batch: its items by state.

    ``Prefer: wait=n`` waits up to n seconds for the end of all of them before answering.
    """
    wish = preference(default=0)
    batch = _known_batch(batch_id)
    if wish.wait:
        _wait(batch, time.monotonic() + wish.wait)
    body = batch_resource(batch_id, batch, _records(batch, service(Gateway)))
    return with_etag(reply(body), request.if_none_match)


@blueprint.operation(
    "GET", "/batch_inference/<batch_id>/results",
    Answer("One JSON object per line, in the order sent", "BatchItem", media_type=NDJSON), problems=ONE,
)  # fmt: skip
def get_batch_results(batch_id: str) -> Response:
    """Get every item of a batch as NDJSON; open ones are queued or running."""
    parts = _results(_known_batch(batch_id).members)
    return Response(("\n".join(part) + "\n" for part in parts), mimetype=NDJSON)


@blueprint.operation(
    "POST", "/batch_inference/<batch_id>/cancel", Answer("The batch resource afterwards", "Batch"), problems=ONE
)
def cancel_batch(batch_id: str) -> Response:
    """Cancel every item that has not ended."""
    batch, gateway = _known_batch(batch_id), service(Gateway)
    for record in _records(batch, gateway).values():
        if not record.state.terminal:
            with suppress(HasEnded, UnknownRequest, PurgedRequest):  # it ended meanwhile
                gateway.cancel(record.id)
    return reply(batch_resource(batch_id, batch, _records(batch, gateway)))


@blueprint.operation(
    "GET", "/batch_inference/<batch_id>/events", *declared.EVENTS,
    problems=("unknown_batch", "too_many_waiters"), parameters=(declared.LAST_EVENT_ID,),
)  # fmt: skip
def batch_events(batch_id: str) -> Response:
    """Follow a batch.

    An event `progress` with the batch resource whenever more items have ended, the last one named `end`.
    """
    batch, gateway = _known_batch(batch_id), service(Gateway)

    def look(seen: int, wait: float) -> tuple[list[sse.StreamEvent], bool]:
        records = _records(batch, gateway)
        waiting = next((record for record in records.values() if not record.state.terminal), None)
        if waiting is not None:
            gateway.wait(waiting.id, wait)
            records = _records(batch, gateway)
        body = batch_resource(batch_id, batch, records)
        over = body["status"] == "completed"
        ended = len(batch.members) - body["counts"]["queued"] - body["counts"]["running"]
        return [sse.StreamEvent(ended, "end" if over else "progress", body)] if ended > seen else [], over

    return sse.stream(look, app_settings().max_wait)
