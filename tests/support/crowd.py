"""A large system on paper: leases of workers that do not run, records of requests that nobody ran, a day of minutes.

For tests of what reads the state of the system. What it writes has the shape that the Lua scripts give it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import cycle
from uuid import uuid4

import redis

MODELS = ("resnet18", "mobilenet")
STATES = ("succeeded",) * 18 + ("failed", "canceled")
#: Latency buckets that something falls into, of the 41 there are.
BUCKETS = range(4, 20)

#: What redis-py takes as a name or a value, and so as a hash.
Word = bytes | bytearray | memoryview | str | int | float
Hash = dict[Word, Word]


def lease_workers(database: redis.Redis, prefix: str, number: int, *, turn: int = 0) -> None:
    """Write the leases of ``number`` workers, good for five minutes; another ``turn`` has other numbers."""
    with database.pipeline(transaction=False) as pipe:
        for place in range(number):
            pipe.hset(f"{prefix}workers", f"w{place}@host/boot", json.dumps(_worker(place, turn)))
            pipe.set(f"{prefix}lease:w{place}@host/boot", 1, ex=300)
        pipe.execute()


def _worker(place: int, turn: int) -> dict[str, object]:
    return {
        "id": f"w{place}@host", "boot": f"w{place}@host/boot", "model": MODELS[place % 2], "version": "1",
        "weights": "torchvision:IMAGENET1K_V1", "runtime": "onnxruntime", "device": "cpu", "host": "host",
        "pid": 1000 + place, "concurrency": 16, "max_batch": 4, "state": "busy" if (place + turn) % 3 else "idle",
        "in_flight": (place + turn) % 3, "processed": 1000 + turn, "failed": 1, "service_seconds": 0.02,
        "rss_bytes": 150_000_000 + 4096 * turn, "cpu_seconds": 5.0 + turn, "chaos": None, "started_at": time.time(),
        "last_heartbeat": time.time(),
    }  # fmt: skip


def keep_requests(database: redis.Redis, prefix: str, number: int, every: float = 0.36) -> list[str]:
    """Write the records of ``number`` requests that have ended, ``every`` seconds apart, newest last; their ids."""
    now, states, ids = time.time(), cycle(STATES), [str(uuid4()) for _ in range(number)]
    with database.pipeline(transaction=False) as pipe:
        for place, request_id in enumerate(ids):
            created = round(now - every * (number - place), 6)
            pipe.hset(f"{prefix}request:{request_id}", mapping=_record(place, created, next(states)))
            pipe.zadd(f"{prefix}recent", {request_id: created})
        pipe.execute()
    return ids


def _record(place: int, created: float, state: str) -> Hash:
    worker, model = f"w{place % 50}@host/boot", MODELS[place % 2]
    outcome = {
        "model": model, "weights": "torchvision:IMAGENET1K_V1", "decode": 0.004, "infer": 0.02,
        "predictions": [{"class": f"class {index}", "index": index, "confidence": 0.2} for index in range(5)],
    } if state == "succeeded" else {"code": "unsupported_image", "message": "no image", "retryable": False}  # fmt: skip
    timeline = [{"at": created, "event": "started", "worker": worker, "attempt": 1}, {"at": created, "event": state}]
    return {
        "state": state, "lane": f"normal.{model}", "created": created, "started": created, "completed": created,
        "attempt": 1, "spec": json.dumps({"top_k": 5, "model_type": model}), "outcome": json.dumps(outcome),
        "timeline": "".join(json.dumps(event) + "\n" for event in timeline),
    }  # fmt: skip


def keep_minutes(database: redis.Redis, prefix: str, number: int) -> None:
    """Write what was counted in the last ``number`` minutes, and the ledger and histograms since the beginning."""
    current = int(time.time() // 60)
    lanes = [f"{priority}.{model}" for priority in ("high", "normal", "low") for model in MODELS]
    with database.pipeline(transaction=False) as pipe:
        for minute in range(current - number + 1, current + 1):
            pipe.hset(f"{prefix}minute:{minute}", mapping=dict(_minute(lanes)))
        for lane in lanes:
            pipe.hset(f"{prefix}ledger", mapping=_ledger(lane))
            for stage in ("queue", "decode", "infer", "total"):
                pipe.hset(f"{prefix}latency", mapping={f"{lane}:{stage}:{bucket}": 10 for bucket in BUCKETS})
                pipe.hset(f"{prefix}latency", f"{lane}:{stage}:sum", 10_000_000)
        pipe.execute()


def _minute(lanes: list[str]) -> Iterator[tuple[Word, Word]]:
    for lane in lanes:
        yield from ((f"{lane}:{event}", 20) for event in ("accepted", "succeeded", "failed"))
    for stage in ("queue", "decode", "infer", "total"):
        yield from ((f":{stage}:{bucket}", 9) for bucket in BUCKETS)


def _ledger(lane: str) -> Hash:
    states = {"succeeded": 1500, "failed": 83, "canceled": 83, "expired": 0, "queued": 0, "running": 0}
    return {f"{lane}:{state}": value for state, value in {"accepted": sum(states.values()), **states}.items()}
