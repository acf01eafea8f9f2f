"""Stock Celery: the default prefork pool, Redis as broker and result backend, JSON messages with the photo inside."""

from __future__ import annotations

import base64
import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from bench.peers.servers import pipeline

app = Celery("peer", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
# Long tasks of equal length: one reserved per process spreads them evenly, as Celery's guide to optimizing says.
app.conf.update(worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")), result_expires=60)

loaded: dict[str, pipeline.Pipeline] = {}


@worker_process_init.connect
def load(**_: Any) -> None:
    """Load in each process of the pool."""
    loaded["pipeline"] = pipeline.load()


@app.task
def classify(photo: str) -> dict[str, Any]:
    """One photo."""
    return pipeline.classify(loaded["pipeline"], base64.b64decode(photo))
