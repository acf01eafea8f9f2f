"""Dramatiq with its Redis broker and Redis results."""

from __future__ import annotations

import base64
import os
import threading
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

from bench.peers.servers import pipeline

# A wait for a result is one blocking pop, which redis-py's own default would end after five seconds.
_client = Redis.from_url(os.environ["BENCH_REDIS"], socket_timeout=None)
broker = RedisBroker(client=_client)
broker.add_middleware(Results(backend=RedisBackend(client=_client), result_ttl=60_000))
dramatiq.set_broker(broker)

_loaded: dict[str, pipeline.Pipeline] = {}
_loading = threading.Lock()


def _pipeline() -> pipeline.Pipeline:
    with _loading:
        if "pipeline" not in _loaded:
            _loaded["pipeline"] = pipeline.load()
        return _loaded["pipeline"]


@dramatiq.actor(store_results=True, max_retries=0)
def classify(photo: str) -> dict[str, Any]:
    """One photo."""
    return pipeline.classify(_pipeline(), base64.b64decode(photo))
