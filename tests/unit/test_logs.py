"""Every process logs one line per event, as text or as JSON, with who said it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from common import logs
from common.settings import Settings


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_json_line_carries_the_message_the_facts_and_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"), "resnet18-1")
    logging.getLogger("tasks.worker.task").info("answered in %.1f s", 0.25, extra={"request_id": "r1"})
    (line,) = json_lines(capsys)
    assert line["event"] == "answered in 0.2 s"
    assert line["request_id"] == "r1"
    assert (line["process"], line["logger"], line["level"]) == ("resnet18-1", "tasks.worker.task", "info")
    assert str(line["timestamp"]).endswith("Z")


def test_structlog_and_logging_come_out_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"), "api")
    logging.getLogger("a").warning("one", extra={"n": 1})
    structlog.get_logger("a").warning("one", n=1)
    first, second = json_lines(capsys)
    assert {**first, "timestamp": ""} == {**second, "timestamp": ""}


def test_a_traceback_stays_on_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"), "api")
    try:
        int("x")
    except ValueError:
        logging.getLogger("a").exception("broken")
    (line,) = json_lines(capsys)
    assert "ValueError" in json.dumps(line["exception"])


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_never_shows_local_variables(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format=log_format), "api")
    password = "hunter2"  # noqa: S105 - what must not be written
    try:
        int(password[:0])
    except ValueError:
        logging.getLogger("a").exception("broken")
    written = capsys.readouterr().err
    assert "ValueError" in written
    assert "hunter2" not in written


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_level="WARNING"), "api")
    logging.getLogger("a").info("quiet")
    structlog.get_logger("b").info("quiet")
    logging.getLogger("a").warning("loud")
    written = capsys.readouterr().err
    assert "loud" in written
    assert "quiet" not in written


def test_configuring_twice_writes_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(), "api")
    logs.configure(Settings(), "api")
    logging.getLogger("a").warning("once")
    assert capsys.readouterr().err.count("once") == 1
