"""``/v2``: the Open Inference Protocol (KServe, Triton) over the same queue, for clients such as ``tritonclient``.

A model takes ``image`` (BYTES: encoded images) or in its place ``pixels`` (UINT8 or FP32, ``(n, height, width, 3)``),
and returns ``label``, ``index`` and ``confidence`` of its best classes. The protocol has no asynchronous calls: the
answer comes when all images are done, or is 504 after ``MAX_WAIT``.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Response, request

from api.http import declared
from api.http.correlation import traceparent
from api.http.errors import from_outcome
from api.http.openapi import Answer, Operations, header
from api.http.problems import HttpProblem
from api.http.rate_limit import spend_items
from api.input import intake, oip
from api.input.oip import InferRequest, Tensor
from api.services import app_settings, service
from api.version import VERSION
from api.views.resources import reply
from api.views.shapes import array, integer, mapping, shape, string
from api.views.system import model_row
from tasks.errors import BrokerUnavailable
from tasks.inspect.monitor import Monitor
from tasks.lanes import ANY
from tasks.producer.gateway import Gateway, Submission, uuid7
from tasks.protocol.owners import public_id
from tasks.protocol.requests import Request, State
from worker_models.limits import Limits

blueprint = Operations("open inference protocol", __name__, description="KServe and Triton clients")

LENGTH_HEADER = "Inference-Header-Content-Length"
PRIORITIES = {0: "normal", 1: "high", 2: "normal", 3: "low"}  # Triton counts from 1, the highest
LONGEST_TIMEOUT = 10**15  # microseconds; far beyond what a deadline may be
#: Inputs in the metadata. Clients send every listed input, so the alternative ``pixels`` is not listed.
INPUT = {"name": "image", "datatype": "BYTES", "shape": [-1]}
UNKNOWN = ("model_not_found",)
_TENSOR = shape(
    name={"enum": ["image", "pixels"]},
    datatype={"enum": ["BYTES", "UINT8", "FP32"]},
    shape=array(integer(minimum=0), minItems=1, maxItems=8),
    data=array({}, "image: base64 strings; pixels: numbers"),
    parameters=mapping(),
    optional=("data", "parameters"),
)
_INFER = shape(
    id=string("Given back"),
    inputs=array(_TENSOR, minItems=1, maxItems=1),
    outputs=array(shape(name={})),
    parameters=mapping("top_k, priority (1 to 3, or high, normal, low), timeout (microseconds; 0 for MAX_WAIT)"),
    optional=("id", "outputs", "parameters"),
)
INFER_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _INFER},
        "application/octet-stream": {"schema": string(contentMediaType="application/octet-stream")},
    },
}
INFER_ANSWERS = (
    Answer("The outputs", "V2Answer"),
    Answer("The outputs, binary data behind the JSON", {"type": "string"}, {LENGTH_HEADER: "Where the JSON ends"},
           media_type="application/octet-stream"),
)  # fmt: skip
INFER_PARAMETERS = (header(LENGTH_HEADER, "Where the JSON ends, when binary data follows", {"type": "integer"}),)
METADATA = Answer("The model", "V2Model")
READINESS = (Answer("A worker serves it", "V2ModelReady"), Answer("No worker serves it", "V2ModelReady", status=503))
INFER_PROBLEMS = (
    "model_not_found", *declared.IMAGE_BODY, *declared.REFUSALS, "timeout", "too_many_waiters", "canceled",
    "inference_failed", "poison", "expired",
)  # fmt: skip


@blueprint.operation("GET", "/v2", Answer("The server", "V2Server"))
def v2_server() -> Response:
    """Describe the server."""
    return reply({"name": "inferlane", "version": VERSION, "extensions": ["binary_tensor_data", "classification"]})


@blueprint.operation("GET", "/v2/health/live", Answer("It answers", "V2Health"), role="public")
def v2_live() -> Response:
    """Check that this process answers."""
    return reply({"live": True})


@blueprint.operation(
    "GET", "/v2/health/ready",
    Answer("A worker takes work", "V2Health"), Answer("Not ready", "V2Health", status=503), role="public",
)  # fmt: skip
def v2_ready() -> Response:
    """Check whether inference requests are answered."""
    try:
        ready = any(worker["state"] != "draining" for worker in service(Monitor).workers())
    except BrokerUnavailable:
        ready = False
    return reply({"ready": ready}, 200 if ready else 503)


@blueprint.operation("GET", "/v2/models/<model>", METADATA, problems=UNKNOWN)
@blueprint.operation(
    "GET", "/v2/models/<model>/versions/<version>", METADATA,
    problems=UNKNOWN, operation_id="v2ModelVersion", summary="Describe a version of a model.",
)  # fmt: skip
def v2_model(model: str, version: str | None = None) -> Response:
    """Describe a model's inputs and outputs."""
    row = _known(model, version)
    outputs = [{"name": name, "datatype": item[0], "shape": [-1, -1]} for name, item in oip.OUTPUTS.items()]
    platform = ",".join(row["runtimes"]) or "none"
    return reply(
        {"name": model, "versions": [row["version"]], "platform": platform, "inputs": [INPUT], "outputs": outputs}
    )


@blueprint.operation("GET", "/v2/models/<model>/ready", *READINESS, problems=UNKNOWN)
@blueprint.operation(
    "GET", "/v2/models/<model>/versions/<version>/ready", *READINESS,
    problems=UNKNOWN, operation_id="v2ModelVersionReady", summary="Check whether a worker serves a version of a model.",
)  # fmt: skip
def v2_model_ready(model: str, version: str | None = None) -> Response:
    """Check whether a worker serves a model."""
    ready = _known(model, version)["available"]
    return reply({"name": model, "ready": ready}, 200 if ready else 503)


@blueprint.operation(
    "POST", "/v2/models/<model>/infer", *INFER_ANSWERS,
    problems=INFER_PROBLEMS, body=INFER_BODY, parameters=INFER_PARAMETERS,
)  # fmt: skip
@blueprint.operation(
    "POST", "/v2/models/<model>/versions/<version>/infer", *INFER_ANSWERS,
    problems=INFER_PROBLEMS, body=INFER_BODY, parameters=INFER_PARAMETERS, operation_id="v2InferVersion",
    summary="Classify the images of a tensor with a version of a model.",
)  # fmt: skip
def v2_infer(model: str, version: str | None = None) -> Response:
    """Classify the images of a tensor."""
    row = _known(model, version)
    wanted = oip.parse(intake.body(request), _header_length())
    oip.check_outputs(wanted)
    records = _run(list(_submissions(model, wanted)))
    used = {record.model for record in records}
    head: dict[str, Any] = {"model_name": model, "model_version": row["version"]}
    if wanted.id is not None:
        head["id"] = wanted.id
    head["parameters"] = {
        "model": used.pop() if len(used) == 1 else ANY,
        "weights": ",".join(sorted({str(record.weights) for record in records})),
    }
    body, end = oip.answer(wanted, head, [record.predictions or [] for record in records])
    if end is None:
        return Response(body, mimetype="application/json")
    return Response(body, mimetype="application/octet-stream", headers={LENGTH_HEADER: str(end)})


def _known(model: str, version: str | None) -> dict[str, Any]:
    """The row of a model in ``/models``; a problem if there is no such model or version."""
    workers = service(Monitor).workers()
    served = {worker["model"] for worker in workers}
    if model not in {*app_settings().models, *served, ANY}:
        raise HttpProblem("model_not_found", f"There is no model {model}.")
    row = model_row(model, workers)
    if version not in {None, row["version"] or "1"}:
        raise HttpProblem("model_not_found", f"The model {model} has no version {version}.")
    available = bool(served) if model == ANY else row["available"]
    return {**row, "version": row["version"] or "1", "available": available}


def _header_length() -> int | None:
    text = request.headers.get(LENGTH_HEADER)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise oip.wrong(LENGTH_HEADER, "must be a number of bytes")
    return None if text is None else int(text[:12])


def _submissions(model: str, wanted: InferRequest) -> Iterator[Submission]:
    """One submission per image, with generated ids: the protocol's id is for the caller only."""
    limits = Limits.of(app_settings())
    checked = intake.parameters(_parameters(model, wanted))
    group, parent = uuid7(), traceparent()
    found = list(_images(wanted.inputs, limits))
    most = app_settings().max_batch_items
    if not 1 <= len(found) <= most:
        raise oip.wrong("inputs", f"must have 1 to {most} images, not {len(found)}")
    spend_items(len(found))
    for index, data in enumerate(found):
        draft = intake.draft(data, checked, limits)
        yield draft.submission(request_id=f"{group}.{index}", traceparent=parent)


def _parameters(model: str, wanted: InferRequest) -> dict[str, Any]:
    given = wanted.parameters
    top_k, priority = given.get("top_k"), given.get("priority")
    if top_k is None:
        top_k = max((output.classes for output in wanted.outputs), default=0) or None
    if type(priority) is int:
        priority = PRIORITIES.get(priority, priority)
    # A late answer has no reader, so the longest wait is the deadline of each.
    microseconds = oip.member(given, "timeout", int, 0)
    deadline = min(microseconds, LONGEST_TIMEOUT) / 1e6 or min(app_settings().max_wait, intake.MAX_DEADLINE)
    return {"model_type": model, "top_k": top_k, "priority": priority, "deadline": deadline}


def _images(inputs: Sequence[Tensor], limits: Limits) -> Iterator[bytes]:
    if len(inputs) != 1 or inputs[0].name not in {"image", "pixels"}:
        raise oip.wrong("inputs", "must have exactly one tensor, named image or pixels")
    tensor = inputs[0]
    if tensor.name == "pixels":
        yield from oip.pixel_images(tensor, limits)
        return
    if tensor.datatype != "BYTES":
        raise oip.wrong("image", "must be BYTES")
    for element in oip.elements(tensor):
        yield element if isinstance(element, bytes) else intake.decode_base64(element, limits)


def _run(submissions: Sequence[Submission]) -> list[Request]:
    """The ended requests, in order.

    Raises:
        HttpProblem, TaskError: the first error of any of them. A refusal refuses all before any is accepted, because
            the protocol cannot report partial results.
    """
    records = service(Gateway).submit_all_and_wait(submissions, app_settings().max_wait)
    for record in records:
        if not record.state.terminal:
            instance = f"/inference/{public_id(record.id)}"
            raise HttpProblem("timeout", "It took too long; see instance.", members={"instance": instance})
        if record.state is not State.SUCCEEDED:
            raise from_outcome(record)
    return records
