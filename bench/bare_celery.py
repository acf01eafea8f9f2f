"""Stock Celery with a task that does nothing."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("bare", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"], set_as_current=False)


@app.task
def nothing() -> None:
    """Return at once."""
