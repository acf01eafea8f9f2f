"""The shapes of the answers, for the OpenAPI document and for the tests that hold real answers against it.

Answers are not dumped through these schemas: :mod:`api.views.resources` builds them, several times faster. A test
validates what the routes send against the published document, so the two cannot drift apart.
"""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema, fields
from marshmallow.validate import OneOf

from tasks.lanes import PRIORITIES
from tasks.protocol.requests import State

STATES = [state.value for state in State]


def _text(description: str, **more: Any) -> fields.String:
    return fields.String(metadata={"description": description, **more}, required=True)


def _maybe_text(description: str, **more: Any) -> fields.String:
    return fields.String(metadata={"description": description, **more}, required=True, allow_none=True)


def _time(description: str) -> fields.String:
    return _maybe_text(f"{description}; RFC 3339, UTC", format="date-time")


def _number(description: str, **more: Any) -> fields.Float:
    return fields.Float(metadata={"description": description, **more}, required=True)


def _maybe_number(description: str) -> fields.Float:
    return fields.Float(metadata={"description": description}, required=True, allow_none=True)


def _count(description: str) -> fields.Integer:
    return fields.Integer(metadata={"description": description, "minimum": 0}, required=True)


def _many(schema: type[Open], description: str) -> fields.List[Any]:
    return fields.List(fields.Nested(schema), required=True, metadata={"description": description})


class Open(Schema):
    """A shape that may gain members in a later version."""

    class Meta:
        """Published as ``additionalProperties: true``."""

        unknown = INCLUDE


class FieldErrorSchema(Open):
    """One offending field."""

    name = _text("Name of the field or parameter")
    detail = _text("What is wrong with it")


class ProblemSchema(Open):
    """RFC 9457 problem document."""

    type = _text("Identifies the kind of problem; a path that describes it")
    title = _text("The kind in words; never varies")
    status = fields.Integer(required=True, metadata={"description": "The HTTP status"})
    detail = _text("This occurrence in words")
    code = _text("The kind for programs; the last part of type")
    retryable = fields.Boolean(required=True, metadata={"description": "Whether the same call may succeed later"})
    instance = _text("The path this is about")
    request_id = _text("The X-Request-ID of this exchange")
    errors = _many(FieldErrorSchema, "One entry per offending field")
    errors.required = False


class PredictionSchema(Open):
    """One class of the answer; a request has top_k of them, best first."""

    label = fields.String(data_key="class", required=True, metadata={"description": "The class in words"})
    index = _count("Number of the class in the model's output")
    confidence = _number("Softmax probability", minimum=0, maximum=1)


class FailureSchema(Open):
    """Why a request or an item did not succeed."""

    code = _text("The kind of failure, one of the problem codes where there is one")
    message = _text("The failure in words")
    retryable = fields.Boolean(required=True, metadata={"description": "Whether another attempt may succeed"})


class UrlsSchema(Open):
    """Paths that concern this request, relative to the API's root."""

    self = _text("The request resource")
    cancel = _text("POST here to cancel")
    events = _text("Server-sent events of its state changes")


class EventSchema(Open):
    """One entry of a request's history; further members depend on the event."""

    at = _time("When it happened")
    event = _text("What happened, for example accepted, started, retry, rescued, succeeded")


class RequestSchema(Open):
    """The request resource."""

    request_id = _text("The id, unique for as long as the record lives")
    status = _text("State; success or failed in the synchronous answer to POST", enum=[*STATES, "success"])
    state = fields.String(required=True, validate=OneOf(STATES), metadata={"description": "State in its own word"})
    model_type = _text("The model asked for; may be any")
    model = _maybe_text("The model that answered")
    priority = fields.String(required=True, validate=OneOf(PRIORITIES))
    lane = _text("The lane it waits or waited in")
    weights = _maybe_text("Which weights answered")
    predictions = _many(PredictionSchema, "Best first; empty unless succeeded")
    error = fields.Nested(FailureSchema, required=True, allow_none=True)
    worker_id = _maybe_text("The worker that has it or answered it")
    processing_time = _maybe_number("Seconds from acceptance to the end")
    latency_ms = _maybe_number("The same in milliseconds")
    retries = _count("How often it has been started again")
    timestamp = _time("When it ended, or was accepted if it has not")
    created_at = _time("When it was accepted")
    started_at = _time("When the current attempt began")
    completed_at = _time("When it ended")
    expires_at = _time("When this record goes away")
    deadline = _time("When the answer stops being wanted")
    queue_position = fields.Integer(
        required=True, allow_none=True, metadata={"description": "How many wait ahead of it in its lane"}
    )
    eta = _maybe_number("Expected seconds until its answer")
    attempts = _count("How often it has been started")
    timings = fields.Dict(
        keys=fields.String(), values=fields.Float(), required=True, metadata={"description": "Seconds per stage"}
    )
    batch_id = _maybe_text("The batch it belongs to")
    custom_id = _maybe_text("The caller's own name for it")
    trace_id = _maybe_text("W3C trace id")
    cached = fields.Boolean(
        required=True, metadata={"description": "Whether an identical image had been answered, or was being answered"}
    )
    timeline = _many(EventSchema, "Its history, oldest first")
    urls = fields.Nested(UrlsSchema, required=True)


class AcceptedSchema(Open):
    """What is known the moment a request is accepted; the resource at Location says more."""

    request_id = _text("The id")
    status = _text("State", enum=STATES)
    state = _text("State", enum=STATES)
    model_type = _text("The model asked for")
    priority = fields.String(required=True, validate=OneOf(PRIORITIES))
    timestamp = _time("When it was answered")
    urls = fields.Nested(UrlsSchema, required=True)


class PageSchema(Open):
    """A page of requests, newest first."""

    requests = _many(RequestSchema, "Newest first")
    next_cursor = _maybe_text("Give it as cursor to get the next page; null on the last")


class CountsSchema(Open):
    """How many items of a batch are where."""

    total = _count("All items")
    queued = _count("Waiting")
    running = _count("With a worker")
    succeeded = _count("Answered")
    failed = _count("Failed")
    canceled = _count("Canceled")
    expired = _count("Too late")
    rejected = _count("Never accepted, because the item itself was bad or its lane was full")
    purged = _count("Ended, and the record has expired")


class BatchItemSchema(Open):
    """One item of a batch."""

    index = _count("Its place in the batch")
    custom_id = _maybe_text("The caller's own name for it")
    request_id = _maybe_text("Its request; null when it was rejected")
    status = _text("success or failed in the synchronous answer, else the state, rejected or purged")
    model_type = _maybe_text("The model asked for")
    model = _maybe_text("The model that answered")
    weights = _maybe_text("Which weights answered")
    predictions = _many(PredictionSchema, "Best first; empty unless it succeeded")
    error = fields.Nested(FailureSchema, required=True, allow_none=True)
    worker_id = _maybe_text("The worker that answered")
    processing_time = _maybe_number("Seconds from acceptance to the end")
    latency_ms = _maybe_number("The same in milliseconds")
    retries = _count("How often it has been started again")
    timestamp = _time("When it ended, or was accepted if it has not; null for what was never accepted")


class BatchUrlsSchema(Open):
    """Paths that concern this batch."""

    self = _text("The batch resource")
    results = _text("One JSON line per item")
    cancel = _text("POST here to cancel what has not ended")
    events = _text("Server-sent events of its progress")


class BatchSchema(Open):
    """The batch resource."""

    batch_id = _text("The id")
    status = _text("running until every item has ended, then completed", enum=["running", "completed"])
    counts = fields.Nested(CountsSchema, required=True)
    created_at = _time("When it was accepted")
    urls = fields.Nested(BatchUrlsSchema, required=True)


class BatchAnswerSchema(BatchSchema):
    """The batch resource with all its items, as the synchronous answer has it."""

    results = _many(BatchItemSchema, "In the order sent")
    processing_time = _number("Seconds this call took")


class LivenessSchema(Open):
    """The process answers."""

    status = _text("Always alive", enum=["alive"])


class CheckSchema(Open):
    """One condition of being ready."""

    name = _text("What was looked at")
    ok = fields.Boolean(required=True)
    detail = _text("What was found")


class ReadinessSchema(Open):
    """Whether requests can be taken, and why not."""

    status = _text("ready or not_ready", enum=["ready", "not_ready"])
    checks = _many(CheckSchema, "Every condition")


class StatsSchema(Open):
    """The numbers of the first version of this API."""

    workers_active = _count("Live workers")
    requests_total = _count("Requests accepted")
    requests_success = _count("Requests answered")
    requests_failed = _count("Requests that failed or expired")
    avg_latency = _maybe_number("Mean seconds from acceptance to the end over METRICS_WINDOW; null before the first")


class FindingSchema(Open):
    """Something that is wrong with the system."""

    code = _text("The kind, for programs")
    severity = _text(
        "problem: requests are refused, fail or are not served; warning: they are late", enum=["problem", "warning"]
    )
    detail = _text("What it is")
    remedy = _text("What to do about it")


class HealthSchema(Open):
    """The state of the whole system in one word, with the numbers behind it."""

    status = _text("healthy, degraded or unhealthy", enum=["healthy", "degraded", "unhealthy"])
    reasons = fields.List(fields.String(), required=True, metadata={"description": "Why it is not healthy"})
    findings = _many(FindingSchema, "The same for programs, with what to do")
    timestamp = _time("When this was looked at")
    version = _text("Version of Inferlane")
    uptime = _number("Seconds this API process has run")
    broker = _text("up or down", enum=["up", "down"])
    workers = fields.Dict(required=True, metadata={"description": "total, idle, busy, draining and per model"})
    queue_size = _count("Requests waiting")
    total_requests = _count("Requests accepted since the records began")
    successful_requests = _count("Requests answered")
    failed_requests = _count("Requests that failed or expired")
    stats = fields.Nested(StatsSchema, required=True)


class WorkerSchema(Open):
    """One live worker, as its lease tells."""

    id = _text("Its name")
    url = fields.String(required=True, metadata={"description": "Empty: workers have no address, they pull"})
    model = _text("The model it serves")
    status = _text("healthy while it holds its lease", enum=["healthy", "unhealthy"])
    state = _text("idle, busy, draining, or silent when its lease has run out")
    share = fields.Float(
        data_key="load", required=True,
        metadata={"description": "Share of its places in use", "minimum": 0, "maximum": 1},
    )  # fmt: skip
    errors = _count("Requests that failed in it")
    avg_latency = _maybe_number("Recent mean seconds of inference per request; null before the first")
    started_at = _time("When it began to serve")
    last_heartbeat = _time("When its lease was last renewed")
    in_flight = _count("Requests it has")
    device = _maybe_text("cpu, cuda:0, ...")
    runtime = _maybe_text("onnxruntime or torch")
    weights = _maybe_text("Which weights it has")
    version = _maybe_text("Version of its model")
    rss_bytes = fields.Integer(required=True, allow_none=True)
    pid = fields.Integer(required=True, allow_none=True)
    host = _maybe_text("Where it runs")
    concurrency = _count("Its places: requests it takes at a time")
    processed = _count("Requests it has answered")
    failed = _count("Requests that failed in it")
    cpu_seconds = _number("Processor time it has used")
    chaos = _maybe_text("The fault it has been told to show; null unless faults are enabled")
    service_seconds = _maybe_number("Recent mean seconds of inference per request")
    intra_op_threads = fields.Integer(metadata={"description": "Threads of one forward pass on a CPU"})
    cpu_count = fields.Integer(metadata={"description": "Cores it may use"})
    versions = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "package -> version"})
    configured = fields.Dict(metadata={"description": "Settings in which it must agree with the API"})


class WorkersSchema(Open):
    """All live workers, and those that have gone silent and whose requests nobody has rescued yet."""

    workers = _many(WorkerSchema, "By name")
    total_active = _count("How many hold their lease")
    total_requests = _count("Requests that they have answered or that failed in them")
    total_workers = _count("How many")
    healthy_workers = _count("How many take work")
    timestamp = _time("When this was looked at")


class LaneSchema(Open):
    """One lane."""

    lane = _text("Its name")
    priority = fields.String(required=True, validate=OneOf(PRIORITIES))
    model = _text("The model it belongs to, or any")
    depth = _count("Requests waiting")
    running = _count("Requests with a worker")
    oldest_age = _maybe_number("Seconds the oldest has waited")
    rate_in = _maybe_number("Requests accepted per second, recently")
    rate_out = _maybe_number("Requests ended per second, recently")
    eta = _maybe_number("Expected seconds until a request accepted now is answered")
    paused = fields.Boolean(required=True)


class QueueSchema(Open):
    """The queue in the seed's numbers, and every lane."""

    size = _count("Requests waiting in all lanes")
    high_priority = _count("Of these, high")
    normal_priority = _count("Of these, normal")
    low_priority = _count("Of these, low")
    max_size = _count("Requests a lane holds at most")
    lanes = _many(LaneSchema, "Every lane that exists")
    timestamp = _time("When this was looked at")


class MetricsSchema(Open):
    """Counters and latencies as JSON."""

    total_requests = _count("Requests accepted")
    successful_requests = _count("Requests answered")
    failed_requests = _count("Requests that failed or expired")
    success_rate = _maybe_number("successful / (successful + failed); null before the first")
    average_processing_time = _maybe_number("Mean or median seconds from acceptance to the end")
    requests_per_second = _maybe_number("Requests ended per second, recently")
    queue_size = _count("Requests waiting")
    active_workers = _count("Live workers")
    requests_total = _count("As total_requests")
    requests_success = _count("As successful_requests")
    requests_failed = _count("As failed_requests")
    workers_active = _count("As active_workers")
    avg_latency = _maybe_number("Mean seconds from acceptance to the end over METRICS_WINDOW; null before the first")
    latency_p50 = _maybe_number("Median of these seconds")
    latency_p95 = _maybe_number("95th percentile of these seconds")
    latency_p99 = _maybe_number("99th percentile of these seconds")
    uptime = _number("Seconds this API process has run")
    timestamp = _time("When this was looked at")
    ledger = fields.Dict(required=True, metadata={"description": "lane -> state -> requests"})
    counters = fields.Dict(keys=fields.String(), values=fields.Float(), required=True)
    latencies = fields.Dict(required=True, metadata={"description": "stage -> p50, p95, p99 in seconds, count"})


class ModelSchema(Open):
    """One model that requests may name."""

    name = _text("What model_type says")
    version = _maybe_text("Version")
    architecture = _maybe_text("Architecture")
    input_size = fields.Raw(
        required=True, metadata={"description": "Side of the square the image is cut to, in pixels"}
    )
    labels = fields.Integer(required=True, allow_none=True, metadata={"description": "How many classes"})
    weights = fields.List(fields.String(), required=True, metadata={"description": "Weights its live workers have"})
    runtimes = fields.List(fields.String(), required=True, metadata={"description": "Runtimes of its live workers"})
    live_workers = _count("Workers that serve it now")
    available = fields.Boolean(required=True, metadata={"description": "Whether a worker serves it now"})


class ModelsSchema(Open):
    """All models."""

    models = _many(ModelSchema, "By name")


class ProblemTypeSchema(Open):
    """What a problem type means."""

    type = _text("The type as problem documents have it")
    title = _text("The kind in words")
    status = fields.Integer(required=True)
    retryable = fields.Boolean(required=True)


class DeadLettersSchema(Open):
    """Requests that were given up."""

    dead_letters = _many(RequestSchema, "The newest first")


class DiagnosisSchema(Open):
    """One thing the doctor looked at."""

    name = _text("What was looked at")
    ok = fields.Boolean(required=True, allow_none=True, metadata={"description": "null when it cannot be known"})
    detail = _text("What was found")
    remedy = _text("What to do; empty when nothing is wrong")


class DiagnosesSchema(Open):
    """How the installation is set up, as far as it can be seen from the API."""

    checks = _many(DiagnosisSchema, "Every check; the same names in the same order each time")
    timestamp = _time("When this was looked at")


class OrderSchema(Open):
    """An order of an operator."""

    target = _text("The lane or the worker")
    order = _text("What was ordered")
    effective_within = _number("Seconds until the workers have read it")


class PurgeSchema(Open):
    """What a purge did."""

    target = _text("The lane")
    order = _text("purge")
    canceled = fields.Integer(required=True, metadata={"description": "How many requests it ended"})


class V2ServerSchema(Open):
    """Server metadata of the Open Inference Protocol."""

    name = _text("Always inferlane")
    version = _text("Version of Inferlane")
    extensions = fields.List(fields.String(), required=True)


class V2HealthSchema(Open):
    """Health of the Open Inference Protocol."""

    live = fields.Boolean()
    ready = fields.Boolean()


class V2ModelReadySchema(Open):
    """Readiness of a model in the Open Inference Protocol."""

    name = _text("The model")
    ready = fields.Boolean(required=True)


class V2TensorSchema(Open):
    """Description of a tensor; a length of -1 is free."""

    name = _text("Its name")
    datatype = _text("BYTES, UINT8, INT64 or FP32")
    shape = fields.List(fields.Integer(), required=True)


class V2ModelSchema(Open):
    """Model metadata of the Open Inference Protocol."""

    name = _text("The model")
    versions = fields.List(fields.String(), required=True)
    platform = _text("Runtimes of its live workers")
    inputs = _many(V2TensorSchema, "One of these is given")
    outputs = _many(V2TensorSchema, "All of these are answered unless some are chosen")


class V2OutputSchema(V2TensorSchema):
    """An output with its data."""

    data = fields.List(fields.Raw(), required=True)


class V2AnswerSchema(Open):
    """Inference answer of the Open Inference Protocol."""

    model_name = _text("The model asked for")
    model_version = _text("Its version")
    id = fields.String(metadata={"description": "The id of the request, if it had one"})
    parameters = fields.Dict(required=True, metadata={"description": "model and weights that answered"})
    outputs = _many(V2OutputSchema, "The outputs asked for")
