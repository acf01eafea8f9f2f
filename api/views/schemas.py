"""The shapes of answers about requests and batches, for the OpenAPI document.

:mod:`api.views.resources` builds the answers; a test holds them against the published document.
"""

from api.views.shapes import (  # isort: skip
    Shape, array, boolean, count, integer, many, mapping, maybe_integer, maybe_number, maybe_string, nullable, number,
    ref, shape, string, strings, time,
)  # fmt: skip
from tasks.lanes import PRIORITIES as KNOWN_PRIORITIES
from tasks.protocol.requests import State

STATES = [state.value for state in State]
PRIORITIES = [*KNOWN_PRIORITIES]
_BATCH: dict[str, Shape] = {
    "batch_id": string("The id"),
    "owner": string("Name of the key that made it; anonymous without keys"),
    "status": string("running until every item has ended, then completed", enum=["running", "completed"]),
    "counts": ref("Counts"),
    "created_at": time("When it was accepted"),
    "urls": ref("BatchUrls"),
}
_REQUEST: dict[str, Shape] = {
    "request_id": string("Id, unique among its owner's while the record exists"),
    "owner": string("Name of the key that made it; anonymous without keys"),
    "status": string("State; success or failed in the synchronous answer to POST", enum=[*STATES, "success"]),
    "state": string("State", enum=STATES),
    "model_type": string("The requested model, or any"),
    "model": maybe_string("The model that answered"),
    "priority": string(enum=PRIORITIES),
    "lane": string("Its lane"),
    "weights": maybe_string("Origin of the model's weights"),
    "runtime": maybe_string("What ran the model: onnxruntime, openvino or torch"),
    "precision": maybe_string("The numbers it computed in: float32, or bfloat16 or float16 with PRECISION=fast"),
    "predictions": many("Prediction", "Best first; empty unless succeeded"),
    "error": nullable(ref("Failure")),
    "worker_id": maybe_string("The worker that holds or answered it"),
    "processing_time": maybe_number("Seconds from acceptance to the end"),
    "latency_ms": maybe_number("The same in milliseconds"),
    "retries": count("How often it has been started again"),
    "timestamp": time("When it ended, or was accepted if it has not"),
    "created_at": time("When it was accepted"),
    "started_at": time("When the current attempt began"),
    "completed_at": time("When it ended"),
    "expires_at": time("When this record expires"),
    "deadline": time("When the request expires unanswered"),
    "queue_position": maybe_integer("Requests ahead of it in its lane"),
    "eta": maybe_number("Expected seconds until its answer"),
    "attempts": count("How often it has been started"),
    "timings": mapping("Seconds per stage", number()),
    "batch_id": maybe_string("The batch it belongs to"),
    "custom_id": maybe_string("The caller's own name for it"),
    "trace_id": maybe_string("W3C trace id"),
    "cached": boolean("Whether the answer is that of an identical image"),
    "timeline": many("Event", "Its history, oldest first"),
    "urls": ref("Urls"),
}
_TENSOR: dict[str, Shape] = {
    "name": string("Its name"),
    "datatype": string("BYTES, UINT8, INT64 or FP32"),
    "shape": array(integer()),
}


def _some(*names: str) -> dict[str, Shape]:
    """These members of a request."""
    return {name: _REQUEST[name] for name in names}


#: Component name -> shape.
REQUESTS: dict[str, Shape] = {
    "FieldError": shape(name=string("Name of the field or parameter"), detail=string("What is wrong")),
    "Problem": shape(
        type=string("Identifies the kind of problem; a path that describes it"),
        title=string("Title of the kind"),
        status=integer("The HTTP status"),
        detail=string("Explanation of this occurrence"),
        code=string("Kind for programs; the last part of type"),
        retryable=boolean("Whether the same call may succeed later"),
        instance=string("Path of the affected resource"),
        request_id=string("The X-Request-ID of this exchange"),
        errors=many("FieldError", "One entry per offending field"),
        optional=("errors",),
    ),
    "ProblemType": shape(
        type=string("The type, as in problem documents"),
        title=string("Title of the kind"),
        status=integer(),
        retryable=boolean(),
    ),
    "Prediction": shape(
        {"class": string("Name of the class")},
        index=count("Number of the class in the model's output"),
        confidence=number("Softmax probability", minimum=0, maximum=1),
    ),
    "Failure": shape(
        code=string("Kind of failure, a problem code if there is one"),
        message=string("Explanation of the failure"),
        retryable=boolean("Whether another attempt may succeed"),
    ),
    "Event": shape(
        at=time("When it happened"),
        event=string("What happened, for example accepted, started, retry, rescued, succeeded"),
    ),
    "Urls": shape(
        self=string("The request resource"),
        cancel=string("POST here to cancel"),
        events=string("Server-sent events of its state changes"),
    ),
    "Request": shape(_REQUEST),
    "Accepted": shape(
        _some("request_id", "model_type", "priority", "urls"),
        status=string("State", enum=STATES),
        state=string("State", enum=STATES),
        timestamp=time("When it was answered"),
    ),
    "Page": shape(
        requests=many("Request", "Newest first"),
        next_cursor=maybe_string("cursor of the next page; null on the last"),
    ),
    "DeadLetters": shape(dead_letters=many("Request", "The newest first")),
    "Counts": shape(
        total=count("All items"),
        queued=count("Waiting"),
        running=count("With a worker"),
        succeeded=count("Answered"),
        failed=count("Failed"),
        canceled=count("Canceled"),
        expired=count("Too late"),
        rejected=count("Never accepted, because the item itself was bad or its lane was full"),
        purged=count("Ended, and the record has expired"),
    ),
    "BatchUrls": shape(
        self=string("The batch resource"),
        results=string("One JSON line per item"),
        cancel=string("POST here to cancel the open requests"),
        events=string("Server-sent events of its progress"),
    ),
    "BatchItem": shape(
        _some("model", "weights", "predictions", "error", "worker_id", "processing_time", "latency_ms", "retries"),
        index=count("Its place in the batch"),
        custom_id=maybe_string("The caller's own name for it"),
        request_id=maybe_string("Its request; null when it was rejected"),
        status=string("success or failed in the synchronous answer, else the state, rejected or purged"),
        model_type=maybe_string("The requested model"),
        timestamp=time("When it ended, or was accepted if it has not; null for a rejected item"),
    ),
    "Batch": shape(_BATCH),
    "BatchAnswer": shape(
        _BATCH,
        results=many("BatchItem", "In the order sent"),
        processing_time=number("Seconds this call took"),
    ),
    "V2Server": shape(name=string("Always inferlane"), version=string("Version of Inferlane"), extensions=strings()),
    "V2Health": shape(live=boolean(), ready=boolean(), optional=("live", "ready")),
    "V2Tensor": shape(_TENSOR),
    "V2Model": shape(
        name=string("The model"),
        versions=strings(),
        platform=string("Runtimes of its live workers"),
        inputs=many("V2Tensor", "One of these is given"),
        outputs=many("V2Tensor", "All of these are answered unless some are chosen"),
    ),
    "V2ModelReady": shape(name=string("The model"), ready=boolean()),
    "V2Output": shape(_TENSOR, data=array({})),
    "V2Answer": shape(
        model_name=string("The requested model"),
        model_version=string("Its version"),
        id=string("The id of the request, if it had one"),
        parameters=mapping("model and weights that answered"),
        outputs=many("V2Output", "The requested outputs"),
        optional=("id",),
    ),
}
