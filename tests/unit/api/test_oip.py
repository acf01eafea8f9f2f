"""Open Inference Protocol: tensors in, tensors out, and what is malformed is refused as Triton's clients expect."""

from __future__ import annotations

import base64
import io
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from werkzeug.test import TestResponse

from api.http.problems import HttpProblem
from api.input import oip
from tests.unit.api import samples
from tests.unit.api.fakes import FakeQueue
from tests.unit.api.test_inference import refused
from worker_models.limits import Limits

PNG = samples.png()
LENGTH = "Inference-Header-Content-Length"


def prefixed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def binary(
    client: FlaskClient, inputs: list[dict[str, Any]], tail: bytes, model: str = "answers", **more: Any
) -> TestResponse:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return client.post(f"/v2/models/{model}/infer", data=head + tail, headers={LENGTH: str(len(head))})


def image_input(*items: bytes, **more: Any) -> tuple[list[dict[str, Any]], bytes]:
    raw = prefixed(*items)
    parameters = {"binary_data_size": len(raw)}
    return [{"name": "image", "datatype": "BYTES", "shape": [len(items)], "parameters": parameters} | more], raw


def as_json(client: FlaskClient, tensor: dict[str, Any], model: str = "answers", **more: Any) -> TestResponse:
    return client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor], **more})


def outputs(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.get_json()["outputs"]}


def test_images_in_binary_answers_in_json(client: FlaskClient, queue: FakeQueue) -> None:
    response = binary(
        client, *image_input(PNG, PNG), id="mine", parameters={"top_k": 2, "priority": 1, "timeout": 3_000_000}
    )
    found = outputs(response)
    assert found["label"]["data"] == ["tabby", "lynx"] * 2
    assert (found["index"]["datatype"], found["index"]["shape"]) == ("INT64", [2, 2])
    assert response.get_json()["id"] == "mine"
    assert response.get_json()["parameters"] == {"model": "answers", "weights": "random"}
    sent = queue.submitted[0]
    assert (sent.image, sent.priority, sent.deadline, sent.top_k) == (PNG, "high", 3.0, 2)


def test_images_as_base64_in_json(client: FlaskClient, queue: FakeQueue) -> None:
    data = [base64.b64encode(PNG).decode()]
    outputs(as_json(client, {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [data]}))
    assert queue.submitted[0].image == PNG


def test_binary_outputs_follow_the_json(client: FlaskClient) -> None:
    wanted = [{"name": "confidence", "parameters": {"binary_data": True}}, {"name": "label"}]
    response = binary(client, *image_input(PNG), outputs=wanted)
    end = int(response.headers[LENGTH])
    head, tail = json.loads(response.data[:end]), response.data[end:]
    assert head["outputs"][0]["parameters"]["binary_data_size"] == len(tail) == 8
    assert struct.unpack("<2f", tail) == (0.75, 0.25)
    assert head["outputs"][1]["data"] == ["tabby", "lynx"]


def test_the_classification_extension_gives_strings(client: FlaskClient) -> None:
    wanted = [{"name": "confidence", "parameters": {"classification": 1}}]
    found = outputs(binary(client, *image_input(PNG), outputs=wanted))
    assert (found["confidence"]["datatype"], found["confidence"]["data"]) == ("BYTES", ["0.750000:281:tabby"])


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("form", ["binary", "json"])
def test_pixels_arrive_unchanged(client: FlaskClient, queue: FakeQueue, datatype: str, form: str) -> None:
    wanted = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    given_pixels = wanted if datatype == "UINT8" else (wanted / 255).astype(np.float32)
    tensor: dict[str, Any] = {"name": "pixels", "datatype": datatype, "shape": [2, 5, 7, 3]}
    if form == "binary":
        raw = given_pixels.tobytes()
        response = binary(client, [tensor | {"parameters": {"binary_data_size": len(raw)}}], raw)
    else:
        response = as_json(client, tensor | {"data": given_pixels.tolist()})
    assert response.status_code == 200, response.text
    for index, sent in enumerate(queue.submitted):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(sent.image))), wanted[index])


def test_metadata_health_and_readiness(client: FlaskClient, queue: FakeQueue) -> None:
    assert client.get("/v2").get_json()["extensions"] == ["binary_tensor_data", "classification"]
    assert client.get("/v2/health/live").get_json() == {"live": True}
    assert client.get("/v2/health/ready").status_code == 200
    model = client.get("/v2/models/answers/versions/1").get_json()
    assert [tensor["name"] for tensor in model["outputs"]] == ["label", "index", "confidence"]
    # A client that sends every input the metadata lists is answered.
    listed = {"image": IMAGE, "pixels": PIXELS}
    sent = [listed[tensor["name"]] for tensor in model["inputs"]]
    assert client.post("/v2/models/answers/infer", json={"inputs": sent}).status_code == 200
    assert client.get("/v2/models/answers/ready").get_json() == {"name": "answers", "ready": True}
    assert client.get("/v2/models/any/ready").status_code == 200
    assert client.get("/v2/models/sleeps/ready").status_code == 503
    queue.down = True
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/v2/models/gpt", "/v2/models/gpt/ready", "/v2/models/answers/versions/9"])
def test_unknown_models_and_versions_are_404_with_the_member_clients_read(client: FlaskClient, path: str) -> None:
    problem = refused(client.get(path), 404, "model_not_found")
    assert problem["error"] == problem["detail"]


IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(PNG).decode()]}
PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}


@pytest.mark.parametrize(
    ("tensor", "status", "code"),
    [
        (IMAGE | {"shape": [2]}, 422, "invalid_parameters"),
        (IMAGE | {"shape": []}, 422, "invalid_parameters"),
        (IMAGE | {"shape": [-1]}, 422, "invalid_parameters"),
        (IMAGE | {"shape": [None]}, 422, "invalid_parameters"),
        (IMAGE | {"shape": [10**4000] * 8}, 422, "invalid_parameters"),
        (IMAGE | {"shape": [0], "data": []}, 422, "invalid_parameters"),
        (IMAGE | {"name": "other"}, 422, "invalid_parameters"),
        (IMAGE | {"datatype": "FP32"}, 422, "invalid_parameters"),
        (IMAGE | {"data": [7]}, 422, "invalid_parameters"),
        (IMAGE | {"data": "x"}, 422, "invalid_parameters"),
        (IMAGE | {"data": ["!!"]}, 400, "invalid_base64"),
        (IMAGE | {"data": ["aGVsbG8="]}, 422, "unsupported_image"),
        (IMAGE | {"parameters": {"binary_data_size": 5}}, 422, "invalid_parameters"),
        (IMAGE | {"parameters": 5}, 422, "invalid_parameters"),
        ({"name": "image"}, 422, "invalid_parameters"),
        (7, 422, "invalid_parameters"),
        (PIXELS | {"shape": [3]}, 422, "invalid_parameters"),
        (PIXELS | {"data": [1, 2]}, 422, "invalid_parameters"),
        (PIXELS | {"data": [1, 2, 300]}, 422, "invalid_parameters"),
        (PIXELS | {"data": ["a", "b", "c"]}, 422, "invalid_parameters"),
        (PIXELS | {"datatype": "FP64"}, 422, "invalid_parameters"),
        (PIXELS | {"shape": [1, 90_000, 90_000, 3]}, 422, "invalid_parameters"),
        (PIXELS | {"datatype": "FP32", "data": [1, 0, float("nan")]}, 422, "invalid_parameters"),
        (PIXELS | {"datatype": "FP32", "data": [1, 0, 1.001]}, 422, "invalid_parameters"),
        (PIXELS | {"datatype": "FP32", "data": [1, 0, -0.001]}, 422, "invalid_parameters"),
        (PIXELS | {"datatype": "FP32", "data": [0, 0, 255]}, 422, "invalid_parameters"),
        (PIXELS | {"datatype": "FP32", "data": [0, 0, True]}, 422, "invalid_parameters"),
        (PIXELS | {"data": [1, 2, True]}, 422, "invalid_parameters"),
    ],
)
def test_malformed_tensors_are_refused(
    client: FlaskClient, queue: FakeQueue, tensor: Any, status: int, code: str
) -> None:
    refused(as_json(client, tensor), status, code)
    assert not queue.submitted


@pytest.mark.parametrize(
    "more",
    [
        {"outputs": [{"name": "nope"}]},
        {"outputs": 7},
        {"outputs": [{"name": "label", "parameters": {"classification": -1}}]},
        {"parameters": {"priority": 9}},
        {"parameters": {"timeout": -1}},
        {"parameters": {"timeout": True}},
        {"parameters": {"timeout": 10**400}},
        {"parameters": {"top_k": 10**400}},
        {"parameters": {"timeout": 1.5}},
        {"parameters": {"timeout": "3000000"}},
        {"parameters": {"top_k": "x"}},
        {"parameters": {"top_k": 0}},
        {"parameters": {"top_k": False}},
        {"parameters": {"priority": True}},
        {"parameters": {"binary_data_output": 1}},
        {"outputs": [{"name": "label", "parameters": {"binary_data": "yes"}}]},
        {"outputs": [{"name": "label", "parameters": {"classification": True}}]},
        {"outputs": ""},
        {"id": 7},
        {"inputs": [IMAGE, PIXELS]},
    ],
)
def test_malformed_requests_are_refused(client: FlaskClient, queue: FakeQueue, more: dict[str, Any]) -> None:
    problem = refused(as_json(client, IMAGE, **more), 422, "invalid_parameters")
    assert isinstance(problem["error"], str)
    assert not queue.submitted


@pytest.mark.parametrize("more", [{}, {"parameters": {"timeout": 0}}, {"parameters": {"timeout": None}}])
def test_without_a_timeout_the_deadline_is_how_long_a_call_may_wait(
    client: FlaskClient, queue: FakeQueue, more: dict[str, Any]
) -> None:
    outputs(as_json(client, IMAGE, **more))
    assert queue.submitted[0].deadline == queue.settings.max_wait


@pytest.mark.parametrize(
    ("tensor", "tail"),
    [
        (image_input(PNG)[0][0], image_input(PNG)[1] + b"x"),  # behind the last input
        (IMAGE, b"x"),  # which is in the JSON
        (image_input(PNG)[0][0] | {"data": ["x"]}, image_input(PNG)[1]),  # given twice
    ],
)
def test_bytes_that_belong_to_no_input_are_refused(
    client: FlaskClient, queue: FakeQueue, tensor: dict[str, Any], tail: bytes
) -> None:
    refused(binary(client, [tensor], tail), 422, "invalid_parameters")
    assert not queue.submitted


@pytest.mark.parametrize("model", ["answers", "full"])
def test_overload_refuses_before_anything_is_accepted(client: FlaskClient, queue: FakeQueue, model: str) -> None:
    queue.places = 0 if model == "answers" else 1
    response = binary(client, *image_input(PNG, PNG), model=model)
    refused(response, 503, "too_many_waiters" if model == "answers" else "lane_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert not queue.kept


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v2/models/fails/infer", {"inputs": [IMAGE]}),
        ("POST", "/v2/models/full/infer", {"inputs": [IMAGE]}),
        ("POST", "/v2/models/gpt/infer", {"inputs": [IMAGE]}),
        ("POST", "/v2/models/sleeps/infer", {"inputs": [IMAGE]}),
        ("POST", "/v2/models/answers/infer", None),
        ("POST", "/v2/models/answers/infer", [1]),
        ("POST", "/v2/models/answers/infer", {"inputs": [IMAGE], "parameters": {"top_k": []}}),
        ("DELETE", "/v2/models/answers/infer", None),
        ("GET", "/v2/nothing", None),
    ],
)
def test_error_is_a_string_everywhere(client: FlaskClient, method: str, path: str, body: Any) -> None:
    found = client.open(path, method=method, json=body).get_json()
    assert found["error"] == found["detail"]


@pytest.mark.parametrize("length", ["x", "0", "9999", "-1", ""])
def test_a_wrong_header_length_is_refused(client: FlaskClient, length: str) -> None:
    response = client.post("/v2/models/answers/infer", data=b"{}", headers={LENGTH: length})
    refused(response, 422, "invalid_parameters")


def test_what_ends_badly_is_a_problem(client: FlaskClient) -> None:
    refused(as_json(client, IMAGE, "fails"), 422, "truncated_image")
    refused(as_json(client, IMAGE, "full"), 503, "lane_full")
    problem = refused(as_json(client, IMAGE, "sleeps"), 504, "timeout")
    assert client.get(problem["instance"]).get_json()["status"] == "queued"
    refused(client.post("/v2/models/answers/infer", data=b""), 400, "empty_body")
    zipped = client.post("/v2/models/answers/infer", data=b"x", headers={"Content-Encoding": "gzip"})
    refused(zipped, 415, "unsupported_media_type")


@given(st.binary(max_size=80), st.integers(-2, 90) | st.none())
def test_any_bytes_end_in_a_request_or_a_problem(body: bytes, length: int | None) -> None:
    try:
        request = oip.parse(body, length)
    except HttpProblem:
        return  # anything else that is raised fails the test
    assert len(request.inputs) >= 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "datatype", "shape", "data", "parameters", "binary_data_size"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.fixed_dictionaries({"inputs": st.lists(JSON, max_size=2)}, optional={"outputs": JSON, "parameters": JSON}))
def test_any_json_ends_in_tensors_or_a_problem(body: dict[str, Any]) -> None:
    try:
        for tensor in oip.parse(json.dumps(body).encode(), None).inputs:
            oip.elements(tensor)
            list(oip.pixel_images(tensor, Limits(1000, 1000)))
    except HttpProblem:
        return  # anything else that is raised fails the test


@given(st.integers(1, 20), st.integers(1, 20), st.randoms(use_true_random=False))
def test_any_pixels_become_a_png_of_them(width: int, height: int, dice: Any) -> None:
    rgb = dice.randbytes(width * height * 3)
    with Image.open(io.BytesIO(oip.png(width, height, rgb))) as image:
        assert (image.size, image.tobytes()) == ((width, height), rgb)


def test_a_column_of_pixels_costs_little_memory() -> None:
    """A bytes object for each row would take twenty times the tensor."""
    rgb = bytes(65_535 * 3)
    tracemalloc.start()
    try:
        oip.png(1, 65_535, rgb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(rgb)


@pytest.mark.parametrize("shape", [(1, 70_000, 1, 3), (1, 1, 70_000, 3)])
def test_a_tensor_with_too_long_a_side_is_refused_before_it_is_converted(shape: tuple[int, ...]) -> None:
    tensor = oip.Tensor("pixels", "UINT8", shape, bytes(210_000))
    with pytest.raises(HttpProblem, match="a side may have at most 65535"):
        oip.pixel_images(tensor, Limits(10**6, 10**6))
