"""JSON that would cost a parser seconds and gigabytes is refused by counting."""

from __future__ import annotations

import tracemalloc

import pytest
from flask.testing import FlaskClient

from api.http.problems import HttpProblem
from api.input import json_body

BOMBS = {
    "lists": b"[" + b"[]," * 10_000_000 + b"[]]",
    "nested": b"[" * 16_000_000 + b"]" * 16_000_000,
    "objects": b'{"a":[' + b"{}," * 10_000_000 + b"{}]}",
    "numbers": b"[" + b"1," * 15_000_000 + b"1]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_without_memory(name: str) -> None:
    bomb = BOMBS[name]
    tracemalloc.start()
    with pytest.raises(HttpProblem, match="allowed"):
        json_body.parse(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("path", ["/inference", "/batch_inference", "/v2/models/answers/infer"])
def test_every_route_with_json_refuses_it(client: FlaskClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "MAX_CONTAINERS", 1000)
    answer = client.post(path, data=b"[" + b"[]," * 1000 + b"[]]", content_type="application/json")
    assert answer.status_code == 400
    assert b"allowed" in answer.data


def test_a_tensor_of_four_images_is_read() -> None:
    assert len(json_body.parse(b"[" + b"0.5," * (4 * 512 * 512 * 3 - 1) + b"1]")) == 4 * 512 * 512 * 3
