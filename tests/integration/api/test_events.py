"""Server-sent events of real requests: everything arrives once, also over a broken connection."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from tests.integration.api.conftest import image
from tests.unit.api.test_inference import MEDIA_TYPE

ASYNC = {"Prefer": "respond-async"}


def begin(http: httpx.Client, order: str) -> dict[str, str]:
    headers = ASYNC | {"Content-Type": "image/gif"}
    urls: dict[str, str] = http.post("/inference?model_type=toy", content=image(order), headers=headers).json()["urls"]
    return urls


def parsed(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One dictionary per event block."""
    block: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            block[name] = value
        elif "data" in block:
            yield block | {"data": json.loads(block["data"])}
            block = {}
        else:
            block = {}


def read(http: httpx.Client, path: str, count: int | None = None, last: str | None = None) -> list[dict[str, Any]]:
    """The first ``count`` events of a stream, or all of it."""
    found = []
    with http.stream("GET", path, headers={"Last-Event-ID": last} if last else {}) as answer:
        assert (answer.status_code, answer.headers["Content-Type"][:17]) == (200, "text/event-stream")
        for event in parsed(answer.iter_lines()):
            found.append(event)
            if len(found) == count:
                return found
    return found


def test_every_change_arrives_in_order_and_the_stream_ends(http: httpx.Client) -> None:
    events = read(http, begin(http, "sleep 0.7")["events"])
    assert [event["event"] for event in events] == ["accepted", "started", "succeeded", "end"]
    assert [event["id"] for event in events] == ["1", "2", "3", "4"]
    assert events[-1]["data"]["status"] == "succeeded"


def test_a_reader_that_comes_back_gets_what_it_missed(http: httpx.Client) -> None:
    path = begin(http, "sleep 0.7")["events"]
    first = read(http, path, count=1)
    rest = read(http, path, last=first[-1]["id"])
    assert [event["id"] for event in first + rest] == ["1", "2", "3", "4"]
    again = http.get(path, headers={"Last-Event-ID": "4"})
    assert (again.status_code, again.content) == (204, b"")


def test_a_canceled_request_ends_its_stream(http: httpx.Client) -> None:
    urls = begin(http, "sleep 2")
    http.delete(urls["self"])
    assert read(http, urls["events"])[-1]["data"]["status"] == "canceled"


def test_a_batch_tells_its_progress(http: httpx.Client) -> None:
    orders = ("ok", "sleep 0.7", "sleep 1.4")
    items = [{"data": base64.b64encode(image(order)).decode(), "model_type": "toy"} for order in orders]
    batch = http.post("/batch_inference", json={"requests": items}, headers=ASYNC).json()
    events = read(http, batch["urls"]["events"])
    assert events[-1]["event"] == "end"
    assert events[-1]["data"]["counts"]["succeeded"] == 3
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert [int(event["id"]) for event in events] == sorted({int(event["id"]) for event in events})
    assert http.get(batch["urls"]["events"], headers={"Last-Event-ID": "3"}).status_code == 204


def test_unknown_requests_and_batches_are_problems(http: httpx.Client) -> None:
    for path in ("/inference/nope/events", "/batch_inference/nope/events"):
        answer = http.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, MEDIA_TYPE)
