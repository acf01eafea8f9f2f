"""Flask in front of RQ: enqueue, wait for the latest result on its stream."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request
from redis import Redis
from rq import Queue

from bench.peers.servers.rq_tasks import classify

app = Flask(__name__)
# A wait for a result is one blocking read, which redis-py's own default would end after five seconds.
queue = Queue(connection=Redis.from_url(os.environ["BENCH_REDIS"], socket_timeout=None))


@app.post("/")
def predict() -> dict[str, Any]:
    """One photo as the body."""
    result = queue.enqueue(classify, request.get_data(), result_ttl=60).latest_result(timeout=60)
    if result is None or result.type is not result.Type.SUCCESSFUL:
        raise RuntimeError(f"the job did not succeed: {result}")
    answer: dict[str, Any] = result.return_value
    return answer


@app.get("/livez")
def livez() -> str:
    """Answers as soon as the web process does."""
    return "ok"
