"""What the log has of an answer that is an error: a line with the id that the answer names."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

from api.http.correlation import HEADER
from common import logs
from common.settings import load_settings
from tests.unit.api.fakes import FakeQueue


@contextmanager
def logged(log_format: str = "json") -> Iterator[None]:
    """Log as a process does, for the block."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.configure(load_settings({"LOG_FORMAT": log_format}), "api")
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str], request_id: str) -> list[dict[str, Any]]:
    """What was logged under an id, as a log collector gets it."""
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in found if line.get("request_id") == request_id]


CALLS = [
    ("GET", "/nothing", {}, 404),
    ("PUT", "/inference", {}, 405),
    ("GET", "/inference/unknown", {}, 404),
    ("POST", "/inference", {"data": b"", "content_type": "image/png"}, 400),
    ("POST", "/inference", {"data": b"no image", "content_type": "image/png"}, 422),
    ("POST", "/inference", {"data": b"no image", "content_type": "text/x"}, 415),
    ("POST", "/admin/lanes/normal/pause", {}, 403),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), CALLS)
def test_a_refusal_is_found_by_the_id_that_it_names(
    client: FlaskClient, capsys: pytest.CaptureFixture[str], method: str, path: str, body: dict[str, Any], status: int
) -> None:
    with logged():
        answer = client.open(path, method=method, headers={HEADER: "ann-1"}, **body)
    assert (answer.status_code, answer.get_json()["request_id"]) == (status, "ann-1")
    (line,) = lines(capsys, "ann-1")
    assert (line["event"], line["level"]) == (f"answered {status} {answer.get_json()['code']}", "info")
    assert (line["method"], line["path"], line["detail"]) == (method, path, answer.get_json()["detail"])


def test_an_outage_is_a_warning_with_an_id_of_ours(
    client: FlaskClient, queue: FakeQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.down = True
    with logged():
        answer = client.get("/queue/status")
    assert answer.status_code == 503
    assert [line["level"] for line in lines(capsys, answer.get_json()["request_id"])] == ["warning"]


def test_a_fault_of_ours_has_its_traceback_under_the_id(
    app: Flask, queue: FakeQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)
    monkeypatch.setattr(queue, "lanes", lambda *_: 1 // 0)
    with logged():
        answer = app.test_client().get("/queue/status", headers={HEADER: "ann-2"})
    assert answer.status_code == 500
    faults = [line for line in lines(capsys, "ann-2") if line["level"] == "error"]
    assert "ZeroDivisionError" in json.dumps(faults)


def test_what_a_caller_writes_makes_no_line_of_its_own(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    with logged("console"):
        client.get("/nothing%0aforged")
    said = capsys.readouterr().err
    assert "forged" in said
    assert [line for line in said.splitlines() if line.startswith("forged")] == []
