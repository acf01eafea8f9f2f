"""Somebody who uses the API over HTTP with real images, and remembers what was promised to them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from PIL import Image

from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway
from tasks.protocol.requests import Request
from tests.support.oracle import all_ended, check_answered_once, check_books
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until
from tests.toy import GIF

#: One pixel, then an order for the toy model.
OK = GIF + b"ok"


def jpeg() -> bytes:
    """A small image as a camera would send it."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


@dataclass(frozen=True)
class Reply:
    """What a POST was answered, with the priority it asked for; times are seconds."""

    priority: str
    sent_at: float
    took: float
    response: httpx.Response

    @property
    def refused(self) -> bool:
        return self.response.status_code == 503


class Caller:
    """Sends images to one API. ``accepted`` holds the ids of every request it was promised an answer for."""

    def __init__(self, stack: Stack, api: ApiProcess) -> None:
        self.accepted: list[str] = []
        self.monitor = Monitor(stack.settings())
        self._stack = stack
        self._http = api.client
        self._photo = jpeg()

    def post(self, model: str = "photo", priority: str = "normal", *, wait: bool = False) -> Reply:
        """Hand in one image; ``wait`` for its answer, else for the acceptance only."""
        photo = model == "photo"
        headers = {"Content-Type": "image/jpeg" if photo else "image/gif"}
        if not wait:
            headers["Prefer"] = "respond-async"
        parameters = {"model_type": model, "priority": priority}
        sent, began = time.time(), time.monotonic()
        body = self._photo if photo else OK
        response = self._http.post("/inference", content=body, params=parameters, headers=headers)
        if response.status_code in (200, 202):
            self.accepted.append(response.json()["request_id"])
        return Reply(priority, sent, time.monotonic() - began, response)

    def send(self, model: str = "photo", priority: str = "normal") -> str:
        """Hand in one image that must be accepted; its id."""
        response = self.post(model, priority).response
        assert response.status_code == 202, f"not accepted: {response.status_code} {response.text}"
        return str(response.json()["request_id"])

    def get(self, request_id: str) -> dict[str, Any]:
        """The request resource."""
        response = self._http.get(f"/inference/{request_id}")
        response.raise_for_status()
        return dict(response.json())

    def look(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body of any page."""
        response = self._http.get(path)
        return response.status_code, response.json()

    def wait_for_start(self, request_id: str, node: str, timeout: float = 10.0) -> float:
        """When ``node`` last started the request, in epoch seconds."""

        def started() -> float | None:
            starts = [event for event in self.get(request_id)["timeline"] if event["event"] == "started"]
            return epoch(starts[-1]["at"]) if starts and starts[-1]["worker"] == node else None

        return wait_until(started, timeout, what=f"a request starts on {node}") or 0.0

    def wait_for(self, ids: Sequence[str], timeout: float) -> list[dict[str, Any]]:
        """The resources of these requests, once all of them have succeeded."""
        return self._poll(lambda: [self.get(i) for i in ids], timeout, f"{len(ids)} requests are answered")

    @staticmethod
    def _poll(read: Callable[[], list[dict[str, Any]]], timeout: float, what: str) -> list[dict[str, Any]]:
        def succeeded() -> list[dict[str, Any]] | None:
            found = read()
            return found if all(request["state"] == "succeeded" for request in found) else None

        return wait_until(succeeded, timeout, interval=0.1, what=what) or []

    def judge(self, timeout: float = 5.0) -> list[Request]:
        """Every promise kept, once, and the ledger balances; the records, for further questions."""
        with closing(Gateway(self._stack.settings())) as gateway:
            requests = all_ended(gateway, self.accepted, timeout)
        check_answered_once(requests)
        check_books(self.monitor, requests)
        return requests


def epoch(timestamp: str) -> float:
    """Seconds of an RFC 3339 time."""
    return datetime.fromisoformat(timestamp).timestamp()
