"""The published document is valid, complete, and describes what the routes really send."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from api.input.bodies import BATCH_BODY, INFERENCE_BODY
from tests.support.processes import ROOT
from tests.unit.api.test_inference import BASE64


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    return dict(client.get("/openapi.json").get_json())


def conforms(document: dict[str, Any], method: str, path: str, response: Any) -> None:
    """Fail unless the document describes this status, media type and body for this operation."""
    answer = document["paths"][path][method.lower()]["responses"][str(response.status_code)]
    schema = answer["content"][response.mimetype]["schema"] | {"components": document["components"]}
    body = response.get_json()
    jsonschema.Draft202012Validator(schema).validate(body)
    named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
    if (response.mimetype, response.status_code) == ("application/json", 200):
        assert set(body) == set(named), "members the document does not tell, or tells and the answer lacks"


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_route_is_in_it(app: Flask, document: dict[str, Any]) -> None:
    hidden = {"/", "/favicon.ico", "/openapi.json", "/docs", "/docs/assets/<path:name>"}
    routes = {
        rule.rule.replace("<", "{").replace(">", "}") for rule in app.url_map.iter_rules() if rule.rule not in hidden
    }
    assert routes == set(document["paths"])


def test_every_route_that_the_api_page_names_is_in_it(document: dict[str, Any]) -> None:
    named = re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?\s]*)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    known = {(method.upper(), _shape(path)) for path, methods in document["paths"].items() for method in methods}
    assert len(named) > 15
    assert [route for route in named if (route[0], _shape(route[1])) not in known] == []


def _shape(path: str) -> str:
    """Two pages may call one parameter differently."""
    return re.sub(r"{[^}]*}", "{}", path)


def test_operation_ids_are_unique_and_everything_has_a_summary(document: dict[str, Any]) -> None:
    operations = [
        operation for path in document["paths"].values() for operation in path.values() if "responses" in operation
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] for operation in operations)


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/health", "/workers/status", "/queue/status", "/metrics", "/models", "/inference",
     "/problems/{code}"],
)  # fmt: skip
def test_answers_conform(client: FlaskClient, document: dict[str, Any], path: str) -> None:
    conforms(document, "GET", path, client.get(path.replace("{code}", "lane_full")))


@pytest.mark.parametrize("model", ["answers", "fails", "sleeps", "full", "hopeless", "nope"])
@pytest.mark.parametrize("prefer", ["wait=1", "respond-async"])
def test_answers_to_an_image_conform(client: FlaskClient, document: dict[str, Any], model: str, prefer: str) -> None:
    body = {"data": BASE64, "model_type": model, "request_id": "x"}
    conforms(document, "POST", "/inference", client.post("/inference", json=body, headers={"Prefer": prefer}))
    conforms(document, "GET", "/inference/{request_id}", client.get("/inference/x"))
    conforms(document, "DELETE", "/inference/{request_id}", client.delete("/inference/x"))


@pytest.mark.parametrize("prefer", ["wait=1", "respond-async"])
def test_answers_to_a_batch_conform(client: FlaskClient, document: dict[str, Any], prefer: str) -> None:
    body = {"requests": [{"data": BASE64, "model_type": name} for name in ("answers", "fails", "nope", "full")]}
    response = client.post("/batch_inference", json=body, headers={"Prefer": prefer})
    conforms(document, "POST", "/batch_inference", response)
    path = response.get_json()["urls"]["self"]
    conforms(document, "GET", "/batch_inference/{batch_id}", client.get(path))
    conforms(document, "POST", "/batch_inference/{batch_id}/cancel", client.post(f"{path}/cancel"))


@pytest.mark.parametrize(("path", "body"), [("/inference", INFERENCE_BODY), ("/batch_inference", BATCH_BODY)])
def test_the_documented_example_runs(client: FlaskClient, path: str, body: dict[str, Any]) -> None:
    assert client.post(path, json=body["content"]["application/json"]["example"]).status_code == 200


def test_swagger_ui_loads_only_files_of_this_host(client: FlaskClient) -> None:
    page = client.get("/", follow_redirects=True).text
    assert "://" not in page
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"):
        assert f"/docs/assets/{name}" in page
        with client.get(f"/docs/assets/{name}") as asset:
            assert asset.status_code == 200
    assert client.get("/docs/assets/../__init__.py").status_code == 404


def test_each_line_of_a_batchs_results_conforms(client: FlaskClient, document: dict[str, Any]) -> None:
    """The document describes one line; no OpenAPI tool reads NDJSON by itself."""
    body = {"requests": [{"data": BASE64, "model_type": name} for name in ("answers", "fails", "sleeps", "nope")]}
    path = client.post("/batch_inference", json=body, headers={"Prefer": "respond-async"}).get_json()["urls"]["results"]
    answer = document["paths"]["/batch_inference/{batch_id}/results"]["get"]["responses"]["200"]
    schema = answer["content"]["application/x-ndjson"]["schema"] | {"components": document["components"]}
    lines = client.get(path).text.splitlines()
    assert len(lines) == 4
    for line in lines:
        jsonschema.Draft202012Validator(schema).validate(json.loads(line))
