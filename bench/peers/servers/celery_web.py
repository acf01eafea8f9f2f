"""Flask in front of stock Celery: send the task, wait for its result."""

from __future__ import annotations

import base64
from typing import Any

from flask import Flask, request

from bench.peers.servers.celery_tasks import classify

app = Flask(__name__)


@app.post("/")
def predict() -> dict[str, Any]:
    """One photo as the body."""
    answer: dict[str, Any] = classify.delay(base64.b64encode(request.get_data()).decode()).get(timeout=60)
    return answer


@app.get("/livez")
def livez() -> str:
    """Answers as soon as the web process does."""
    return "ok"
