"""The live workers as a producer sees them: a picture at most half a second old, shared by all threads of a process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

from tasks.lanes import ANY, PRIORITIES, lane
from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys

#: Seconds for which a picture is good enough to decide on.
FRESH = 0.5


def read_workers(client: Client, keys: Keys) -> list[dict[str, Any]]:
    """Descriptions of the workers that hold a lease, in two round trips.

    Raises:
        Unavailable: Redis does not answer.
    """
    return read_register(client, keys)[0]


def read_register(client: Client, keys: Keys) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The registered workers: those that hold a lease, and those whose lease has run out and whom nobody has buried."""
    with translated():
        registered = client.hgetall(keys.workers)
        if not registered:
            return [], []
        with client.pipeline(transaction=False) as pipe:
            for boot in registered:
                pipe.exists(keys.lease(boot.decode()))
            alive = pipe.execute()
    found = [(json.loads(text), lives) for text, lives in zip(registered.values(), alive, strict=True)]
    return [worker for worker, lives in found if lives], [worker for worker, lives in found if not lives]


def expected_wait(
    queued: dict[str, int], model: str, priority: str, workers: Sequence[dict[str, Any]],
    paused: Collection[str] = (),
) -> float | None:  # fmt: skip
    """Seconds until a request accepted now would start: backlog ahead times service time over live workers.

    The backlog ahead is what waits at the same or a higher priority, in the model's lanes and the shared ones; shared
    work is spread over every live worker. Lower lanes get a share of the turns too, which this leaves out: the
    ``eta_error`` histogram says what that costs. Nothing is taken from a paused lane, so nothing in it is ahead.
    None when no worker is live, none has measured yet, or the lane itself is paused.
    """
    if lane(priority, model) in paused:
        return None
    able = [w for w in workers if model in (ANY, w["model"]) and w["service_seconds"] > 0 and w["state"] != "draining"]
    if not able:
        return None
    rate: float = sum(1.0 / worker["service_seconds"] for worker in able)
    rate_of_all: float = sum(1.0 / worker["service_seconds"] for worker in workers if worker["service_seconds"] > 0)
    ahead = PRIORITIES[: PRIORITIES.index(priority) + 1]
    open_lanes = {name: number for name, number in queued.items() if name not in paused}
    own = sum(open_lanes.get(lane(p, model), 0) for p in ahead) if model != ANY else 0
    shared = sum(open_lanes.get(lane(p, ANY), 0) for p in ahead)
    if model == ANY:
        return shared / rate
    return (own + shared * rate / rate_of_all) / rate


class Fleet:
    """Caches workers and queued counts; one thread refreshes, the others use what is there."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._workers: list[dict[str, Any]] = []
        self._queued: dict[str, int] = {}
        self._models: list[str] = []
        self._paused: set[str] = set()
        self._memory = 0
        self._waits: dict[tuple[str, str], float | None] = {}

    def workers(self) -> list[dict[str, Any]]:
        """The live workers."""
        self._refresh()
        return self._workers

    def models(self) -> list[str]:
        """Models that have a live worker, sorted."""
        self._refresh()
        return self._models

    def expected_wait(self, model: str, priority: str) -> float | None:
        """See :func:`expected_wait`."""
        self._refresh()
        waits = self._waits
        if (model, priority) not in waits:
            waits[model, priority] = expected_wait(self._queued, model, priority, self._workers, self._paused)
        return waits[model, priority]

    def memory(self) -> int:
        """Bytes that Redis may hold; 0 for no limit."""
        self._refresh()
        return self._memory

    def paused(self, name: str) -> bool:
        """Whether nothing is taken from this lane."""
        self._refresh()
        return name in self._paused

    def _refresh(self) -> None:
        if time.monotonic() - self._read_at < FRESH:
            return
        if not self._lock.acquire(blocking=self._read_at == float("-inf")):
            return
        try:
            self._workers = read_workers(self._client, self._keys)
            self._queued = read_queued(self._client, self._keys)
            with translated():
                self._memory = int(self._client.info("memory").get("maxmemory", 0))
            self._paused = read_paused(self._client, self._keys)
            self._models = sorted({worker["model"] for worker in self._workers if worker["state"] != "draining"})
            self._waits = {}
            self._read_at = time.monotonic()
        finally:
            self._lock.release()


def read_queued(client: Client, keys: Keys) -> dict[str, int]:
    """How many requests wait, per lane, from the ledger."""
    with translated():
        ledger = client.hgetall(keys.ledger)
    entries = {name.decode(): int(value) for name, value in ledger.items()}
    return {name.removesuffix(":queued"): value for name, value in entries.items() if name.endswith(":queued")}


def read_paused(client: Client, keys: Keys) -> set[str]:
    """The lanes from which nothing is taken."""
    with translated():
        return {name.decode() for name in client.hkeys(keys.paused)}
