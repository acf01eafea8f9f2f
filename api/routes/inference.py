"""``/inference``: submit an image; get, wait for, cancel and list requests."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Response, g, request
from flask.globals import request_ctx

from api.features import cache
from api.features.webhooks import registration
from api.http import declared, parameters, sse
from api.http.correlation import add_headers, traceparent
from api.http.errors import from_outcome
from api.http.openapi import OWNER, Answer, Operations, header, query
from api.http.ownership import visible_owner
from api.http.prefer import Preference, preference
from api.http.problems import wrong_value
from api.input import intake
from api.input.bodies import INFERENCE_BODY
from api.input.intake import Draft
from api.services import app_settings, service
from api.views.resources import now, reply, request_resource, timing_headers, urls, with_etag
from api.views.schemas import STATES
from tasks.errors import BrokerUnavailable, HasEnded, TooManyWaiters
from tasks.inspect.monitor import Monitor
from tasks.inspect.search import SearchFilter
from tasks.producer.gateway import Accepted, Gateway, Submission, uuid7
from tasks.protocol.owners import internal_id, public_id
from tasks.protocol.requests import Request, State
from worker_models.limits import Limits

blueprint = Operations("inference", __name__, description="Classify an image and follow the request")

PARAMETERS = (
    declared.PREFER,
    header("Idempotency-Key", "The same key with the same image and parameters gives the same request"),
    header("X-Request-ID", "Echoed, and in every problem document"),
    header("traceparent", "W3C trace context, passed on to the worker"),
    query("model_type", "The model, or any; the body overrides it", {"type": "string", "default": "any"}),
    query("priority", "As in the body", {"enum": ["high", "normal", "low"], "default": "normal"}),
    query("top_k", "As in the body", {"type": "integer", "minimum": 1, "maximum": intake.MAX_TOP_K}),
    query("deadline", "As in the body: seconds", {"type": "number", "exclusiveMinimum": 0, "maximum": 86400}),
    query("request_id", "As in the body", {"type": "string", "pattern": intake.ID_PATTERN}),
)
ANSWER_HEADERS = {
    "Preference-Applied": "Which preference was honoured",
    "Idempotent-Replayed": "true when this key had been accepted before",
    "Server-Timing": "queue, decode, infer in milliseconds",
}
CANCELED = (
    Answer("Canceled", "Request"),
    Answer("Will be canceled when its worker notices", "Request", status=202),
)
#: The monitor's cursor: acceptance time and id of the last request of the previous page.
_CURSOR = re.compile(r"[0-9]{1,12}\.[0-9]{6}:[!-~]{1,300}")
TIME = {"type": "string", "format": "date-time"}


@blueprint.operation(
    "POST", "/inference",
    Answer("The answer", "Request", ANSWER_HEADERS),
    Answer("Accepted, not ended yet", "Accepted",
           {"Location": "The request resource", "Retry-After": "Seconds", **ANSWER_HEADERS}, status=202),
    problems=(
        *declared.IMAGE_BODY, *declared.REFUSALS, "canceled", "already_finished", "inference_failed", "poison",
        "expired",
    ),
    parameters=PARAMETERS, body=INFERENCE_BODY,
)  # fmt: skip
def infer() -> Response:
    """Classify one image.

    Waits for the answer by default, up to MAX_WAIT seconds; then the answer is 202 and the request goes on.
    """
    settings, request = app_settings(), request_ctx.request  # each use of the proxy costs as much as three calls
    draft = intake.read(request, Limits.of(settings))
    wish, wanted = preference(), submission(draft)
    if cache.applies(settings, wanted, request.headers.get("Cache-Control", "")):
        began = time.monotonic()
        if answer := _share(draft, wanted, wish):
            return answer
        wish = replace(wish, wait=max(0.0, wish.wait - (time.monotonic() - began)))
    accepted, record = _submit(wanted, wish)
    if accepted.replayed:
        add_headers({"Idempotent-Replayed": "true"})
    return _conclude(draft, accepted, record)


def _submit(wanted: Submission, wish: Preference) -> tuple[Accepted, Request | None]:
    accepted, record = service(Gateway).submit_and_wait(wanted, wish.wait)
    if wanted.callback_url:
        registration.send_at_the_end(accepted.id, service(Gateway).records)
    if record is None and accepted.replayed and accepted.state.terminal:
        record = wait_for(accepted.id, 0)
    return accepted, record


def _share(draft: Draft, wanted: Submission, wish: Preference) -> Response | None:
    """A shared answer; None if there is none yet, so this call needs its own request.

    Another call's request is never returned, because canceling it would cancel that call's.
    """
    shared = cache.shared(wanted, g.key_name)
    accepted, record = _submit(shared, wish)
    cache.release_unanswered(shared, record)
    if accepted.replayed and (record is None or record.state is not State.SUCCEEDED):
        return None
    return _conclude(draft, accepted, record, cached=accepted.replayed)


def submission(draft: Draft) -> Submission:
    """The Submission for ``draft``; an ``Idempotency-Key`` decides the id unless the caller gave one."""
    more: dict[str, Any] = {"traceparent": traceparent()}
    key = intake.idempotency_key()
    if key and "request_id" not in draft.parameters:
        more["request_id"] = key
    elif draft.parameters.get("callback_url"):
        more["request_id"] = str(uuid7())
    wanted = draft.submission(**more)
    if wanted.callback_url:
        registration.register(wanted.callback_url, internal_id(wanted.owner, str(wanted.request_id)))
    return wanted


def wait_for(request_id: str, seconds: float) -> Request | None:
    """The record when it has ended or after ``seconds``; None if too many callers wait.

    The request is accepted, so being unable to wait must not look like a refusal.
    """
    try:
        record: Request = service(Gateway).wait(request_id, seconds)
    except (TooManyWaiters, BrokerUnavailable):
        return None
    return record


def _conclude(draft: Draft, accepted: Accepted, record: Request | None, *, cached: bool = False) -> Response:
    if record is None:
        return _pending(_brief(draft, accepted), accepted.id, None)
    add_headers(timing_headers(record))
    if record.state is State.SUCCEEDED:
        own = {"cached": True, "custom_id": draft.parameters.get("custom_id")} if cached else {}
        return reply(request_resource(record, seed=True) | own)
    if record.state.terminal:
        raise from_outcome(record)
    body = _resource(record)
    return _pending(body, record.id, body["eta"])


def _pending(body: dict[str, Any], request_id: str, eta: float | None) -> Response:
    headers = {"Location": urls(request_id)["self"], "Retry-After": str(max(1, math.ceil(eta or 1)))}
    return reply(body, 202, headers)


def _brief(draft: Draft, accepted: Accepted) -> dict[str, Any]:
    return {
        "request_id": public_id(accepted.id),
        "status": accepted.state.value,
        "state": accepted.state.value,
        "model_type": draft.parameters.get("model_type", "any"),
        "priority": draft.parameters.get("priority", "normal"),
        "timestamp": now(),
        "urls": urls(accepted.id),
    }


def _resource(record: Request) -> dict[str, Any]:
    if record.state.terminal:
        return request_resource(record)
    monitor = service(Monitor)
    return request_resource(record, queue_position=monitor.queue_position(record), eta=monitor.eta(record))


@blueprint.operation(
    "GET", "/inference/<request_id>",
    Answer("The request resource", "Request", declared.ETAG | ANSWER_HEADERS), declared.NOT_MODIFIED,
    problems=declared.ONE_REQUEST, parameters=(declared.PREFER, declared.IF_NONE_MATCH),
)  # fmt: skip
def get_request(request_id: str) -> Response:
    """Get a request.

    ``Prefer: wait=n`` waits up to n seconds for its end before answering.
    """
    wish = preference(default=0)
    record = (wait_for(request_id, wish.wait) if wish.wait else None) or service(Gateway).get(request_id)
    return with_etag(reply(_resource(record), headers=timing_headers(record)), request.if_none_match)


@blueprint.operation(
    "DELETE", "/inference/<request_id>", *CANCELED,
    problems=(*declared.ONE_REQUEST, "already_finished"), operation_id="deleteRequest",
)  # fmt: skip
@blueprint.operation(
    "POST", "/inference/<request_id>/cancel", *CANCELED,
    problems=(*declared.ONE_REQUEST, "already_finished"), summary="Cancel a request (for callers without DELETE).",
)  # fmt: skip
def cancel_request(request_id: str) -> Response:
    """Cancel a request.

    While queued it never runs; while running its answer is discarded. Canceling twice is no error.
    """
    try:
        record = service(Gateway).cancel(request_id)
    except HasEnded:
        record = service(Gateway).get(request_id)
        if record.state is not State.CANCELED:
            raise
    return reply(request_resource(record), 200 if record.state.terminal else 202)


@blueprint.operation(
    "GET", "/inference/<request_id>/events", *declared.EVENTS,
    problems=(*declared.ONE_REQUEST, "too_many_waiters"), parameters=(declared.LAST_EVENT_ID,),
)  # fmt: skip
def request_events(request_id: str) -> Response:
    """Follow a request.

    One event per entry of its timeline, named like it, then `end` with the request resource.
    """
    gateway = service(Gateway)

    def look(seen: int, wait: float) -> tuple[list[sse.StreamEvent], bool]:
        record = gateway.wait(request_id, wait)
        body = request_resource(record)
        # A webhook comes after the end, when this stream is over.
        told = [entry for entry in body["timeline"] if entry["event"] != "webhook"]
        found = [sse.StreamEvent(place, entry["event"], entry) for place, entry in enumerate(told, 1)]
        if record.state.terminal:
            found.append(sse.StreamEvent(len(found) + 1, "end", body))
        return found[max(seen, 0) :], record.state.terminal

    return sse.stream(look, app_settings().max_wait)


@blueprint.operation(
    "GET", "/inference", Answer("A page of requests", "Page"),
    problems=["invalid_parameters"],
    parameters=(
        OWNER,
        query("status", "Only requests in this state", {"enum": STATES}),
        query("model_type", "Only requests for this model, or any", {"type": "string"}),
        query("model", "Only requests that this model answered", {"type": "string"}),
        query("worker", "Only requests that this worker started, at any attempt", {"type": "string"}),
        query("request_id", "Only requests whose id begins like this", {"type": "string"}),
        query("contains", "Only requests whose id or custom_id contains this", {"type": "string"}),
        query("since", "Only requests accepted at this time or later", TIME),
        query("until", "Only requests accepted before this time", TIME),
        query("limit", "How many", declared.LIMIT),
        query("cursor", "next_cursor of the page before", {"type": "string"}),
    ),
)  # fmt: skip
def list_requests() -> Response:
    """List the requests of the last day still on record, newest first.

    A call scans at most 2,000 records, so a page of a narrow search may be short or empty and still have a next_cursor
    for older requests.
    """
    given = request.args
    records, cursor = service(Monitor).recent(
        _wanted(given), limit=parameters.page_size(given), cursor=_cursor(given.get("cursor"))
    )
    return reply({"requests": [request_resource(record) for record in records], "next_cursor": cursor})


def _wanted(given: Mapping[str, str]) -> SearchFilter:
    texts = {name: given.get(name) or None for name in ("model_type", "model", "worker", "request_id", "contains")}
    status = parameters.choice("status", given.get("status"), STATES)
    since, until = (parameters.moment(name, given) for name in ("since", "until"))
    return SearchFilter(status=status, owner=visible_owner(), since=since, until=until, **texts)


def _cursor(text: str | None) -> str | None:
    if text is not None and not _CURSOR.fullmatch(text):
        raise wrong_value("cursor", "must be the next_cursor of a page")
    return text
