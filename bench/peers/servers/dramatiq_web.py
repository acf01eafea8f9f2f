"""Flask in front of Dramatiq: send the message, wait for its result."""

from __future__ import annotations

import base64
from typing import Any

from flask import Flask, request

from bench.peers.servers.dramatiq_tasks import classify

app = Flask(__name__)


@app.post("/")
def predict() -> dict[str, Any]:
    """One photo as the body."""
    message = classify.send(base64.b64encode(request.get_data()).decode())
    answer: dict[str, Any] = message.get_result(block=True, timeout=60_000)
    return answer


@app.get("/livez")
def livez() -> str:
    """Answers as soon as the web process does."""
    return "ok"
