"""RQ's SimpleWorker: jobs in its own process, because a model's threads do not survive a fork for each job."""

from __future__ import annotations

import os

from redis import Redis
from rq import SimpleWorker

from bench.peers.servers import rq_tasks

if __name__ == "__main__":
    rq_tasks.load()
    SimpleWorker(["default"], connection=Redis.from_url(os.environ["BENCH_REDIS"])).work(logging_level="WARNING")
