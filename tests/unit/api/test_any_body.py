"""Whatever a caller sends: no answer is a 500, and every error is a problem that says what is wrong in words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from api.http.problems import MEDIA_TYPE
from tests.unit.api import samples

B64 = base64.b64encode(samples.png()).decode()
NAMES = [
    "data", "model_type", "priority", "top_k", "deadline", "request_id", "callback_url", "custom_id", "requests",
    "inputs", "outputs", "id", "parameters", "name", "datatype", "shape", "binary_data_size", "binary_data_output",
    "timeout", "classification", "binary_data", "confirm",
]  # fmt: skip
WORDS = [B64, "answers", "fails", "full", "any", "image", "pixels", "BYTES", "FP32", "UINT8", "label", "high", "..", ""]
LEAF = (
    st.sampled_from([None, True, False, 0, 1, 5, -1, 10**400, -(10**4000), 0.5, float("nan"), float("inf"), "\ud800"])
    | st.sampled_from(WORDS)
    | st.text(max_size=6)
)
ANYTHING = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from(["image", "pixels"]) | LEAF, "datatype": st.sampled_from(WORDS),
     "shape": st.sampled_from([[1], [1, 1, 1, 3]]) | ANYTHING},
    optional={"data": st.just([B64]) | ANYTHING, "parameters": ANYTHING},
)  # fmt: skip
BODIES = {
    "/inference": st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES[:8], LEAF | ANYTHING)) | ANYTHING,
    "/batch_inference": st.fixed_dictionaries({"requests": st.lists(ANYTHING, max_size=3) | ANYTHING}),
    "/v2/models/answers/infer": st.fixed_dictionaries(
        {"inputs": st.lists(TENSOR, max_size=2) | ANYTHING},
        optional={"outputs": ANYTHING, "parameters": ANYTHING, "id": LEAF},
    ),
}
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Prefer": st.text(alphabet="respond-asyncwait=;, 059", max_size=20),
        "Idempotency-Key": st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=9),
        "Content-Encoding": st.sampled_from(["gzip", "", "identity"]),
        "Inference-Header-Content-Length": st.sampled_from(["0", "5", "x", "-1", "9" * 20]),
        "traceparent": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    },
)
quickly = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def check(path: str, answer: TestResponse) -> None:
    assert answer.status_code < 500 or answer.status_code in {503, 504}, answer.text
    if answer.status_code < 400:
        return
    problem = answer.get_json()
    assert answer.mimetype == MEDIA_TYPE
    assert problem["detail"]
    assert " object at 0x" not in answer.text
    assert not path.startswith("/v2") or isinstance(problem["error"], str)
    assert answer.status_code not in {429, 503} or answer.headers["Retry-After"]


@pytest.mark.parametrize("path", BODIES)
@quickly
@given(data=st.data(), headers=HEADERS)
def test_any_json(client: FlaskClient, path: str, data: Any, headers: dict[str, str]) -> None:
    body = json.dumps(data.draw(BODIES[path]))
    check(path, client.post(path, data=body, content_type="application/json", headers=headers))


@pytest.mark.parametrize("path", ["/inference", "/batch_inference"])
@quickly
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*NAMES, "image", "images"]), st.binary(max_size=20) | st.just(samples.png()), st.booleans()
        ),
        max_size=5,
    )
)
@example([("image", samples.png(), False), ("top_k", b"\xff", False)])
def test_any_form(client: FlaskClient, path: str, parts: list[tuple[str, bytes, bool]]) -> None:
    body = b"".join(
        b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), b'; filename="f"' if named else b"", value)
        for name, value, named in parts
    )
    answer = client.post(path, data=body + b"--B--\r\n", content_type="multipart/form-data; boundary=B")
    check(path, answer)
