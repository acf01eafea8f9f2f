"""Live workers and queued requests as the API sees them, about half a second ago."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tasks.lanes import ANY, PRIORITIES, Lane, lane
from tasks.protocol.allowances import Allowances
from tasks.protocol.connections import Client, read_hash, translated
from tasks.protocol.keys import Keys
from tasks.protocol.owners import write_weights
from tasks.protocol.turns import Backlog

#: Seconds after which the load is read again; after which callers wait for another thread's reading, and how long.
FRESH, OLD, WAIT = 0.5, 2.0, 0.1

Worker = dict[str, Any]


def read_workers(client: Client, keys: Keys) -> list[Worker]:
    """Descriptions of the workers that hold a lease, in two round trips; raises BrokerUnavailable without Redis."""
    return read_register(client, keys)[0]


def read_register(client: Client, keys: Keys) -> tuple[list[Worker], list[Worker]]:
    """The registered workers: those that hold a lease, and those whose lease has expired but are not rescued yet."""
    registered = read_hash(client, keys.workers)
    if not registered:
        return [], []
    with translated(), client.pipeline(transaction=False) as pipe:
        for boot in registered:
            pipe.exists(keys.lease(boot))
        alive = pipe.execute()
    found = [(json.loads(text), lives) for text, lives in zip(registered.values(), alive, strict=True)]
    return [worker for worker, lives in found if lives], [worker for worker, lives in found if not lives]


def read_queued(client: Client, keys: Keys) -> dict[str, int]:
    """Queued requests per lane, from the ledger."""
    ledger = read_hash(client, keys.ledger)
    return {name.removesuffix(":queued"): int(value) for name, value in ledger.items() if name.endswith(":queued")}


@dataclass(frozen=True)
class QueueLoad:
    """Readings of one moment; ``memory`` is the bytes that Redis may hold, 0 for no limit."""

    workers: Sequence[Worker] = ()
    queued: Mapping[str, int] = field(default_factory=dict)
    paused: Collection[str] = ()
    memory: int = 0
    waiting: Backlog = field(default_factory=Backlog)
    allowances: Allowances = field(default_factory=Allowances)
    _waits: dict[tuple[str, str, str], float | None] = field(default_factory=dict)

    @cached_property
    def models(self) -> list[str]:
        """Models with a live worker, sorted."""
        return sorted({worker["model"] for worker in self.workers if worker["state"] != "draining"})

    def expected_wait(self, model: str, priority: str, owner: str = "") -> float | None:
        """Seconds until a request accepted now would start: backlog ahead times service time over live workers.

        The backlog ahead has the same or a higher priority and is in the model's lanes or the shared ones; with an
        ``owner``, only what is served before that owner's turn. Shared requests are spread over every live worker.
        Nothing in a paused lane is ahead. Lower priorities also get turns, which this ignores: the ``eta_error``
        histogram measures the error. None when no worker is live, none has measured its service time, or the lane
        itself is paused.
        """
        asked = model, priority, owner
        if asked not in self._waits:
            self._waits[asked] = self._expected_wait(*asked)
        return self._waits[asked]

    def next_end(self, owner: str) -> float | None:
        """Seconds until one of an owner's open requests is expected to end; None when unknown.

        That is the wait and service of its first queued request or, when none is queued, the service of a running one.
        """
        lanes = [Lane.parse(name) for name, owners in self.waiting.lanes.items() if owner in owners]
        starts = [self._expected_wait(one.model, one.priority, owner, mine=0) for one in lanes]
        known = [start for start in starts if start is not None] if lanes else [0.0]
        service = max((worker["service_seconds"] for worker in self.workers), default=0.0)
        return min(known) + service if known and service else None

    def _expected_wait(self, model: str, priority: str, owner: str, mine: float | None = None) -> float | None:
        measured = [worker for worker in self.workers if worker["service_seconds"] > 0]
        able = [worker for worker in measured if model in (ANY, worker["model"]) and worker["state"] != "draining"]
        if not able or lane(priority, model) in self.paused:
            return None
        rate, rate_of_all = (sum(1.0 / worker["service_seconds"] for worker in some) for some in (able, measured))
        shared = self._ahead(ANY, priority, owner, mine)
        if model == ANY:
            return float(shared / rate)
        return float((self._ahead(model, priority, owner, mine) + shared * rate / rate_of_all) / rate)

    def _ahead(self, model: str, priority: str, owner: str, mine: float | None) -> float:
        lanes = [lane(urgent, model) for urgent in PRIORITIES[: PRIORITIES.index(priority) + 1]]
        queued = {name: self.queued.get(name, 0) for name in lanes if name not in self.paused}
        return sum(self.waiting.ahead(name, owner, count, mine) if owner else count for name, count in queued.items())


def read_backlog(client: Client, keys: Keys) -> QueueLoad:
    """A load without its workers: queued requests per lane, and messages per lane and owner."""
    queued = read_queued(client, keys)
    lanes = [name for name, count in queued.items() if count > 0]
    with translated():
        return QueueLoad(queued=queued, waiting=Backlog.read(client, keys, lanes) if lanes else Backlog())


class LiveWorkers:
    """Caches the load: one thread reads it again while the others use the last."""

    def __init__(self, client: Client, keys: Keys, weights: Mapping[str, float] | None = None) -> None:
        """``weights`` are those of owners; Redis gets them with the first reading."""
        self._client, self._keys, self._weights = client, keys, weights
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._load = QueueLoad()

    def load(self) -> QueueLoad:
        """The current load; raises BrokerUnavailable when a new one is due and Redis does not answer."""
        age = time.monotonic() - self._read_at
        if age >= FRESH and self._lock.acquire(timeout=0 if age < OLD else WAIT if age < float("inf") else -1):
            try:
                if self._outdated():
                    self._load = self._read()
                    self._read_at = time.monotonic()
            finally:
                self._lock.release()
        return self._load

    def _outdated(self) -> bool:
        return time.monotonic() - self._read_at >= FRESH

    def _read(self) -> QueueLoad:
        if self._weights:
            write_weights(self._client, self._keys, self._weights)
            self._weights = None
        workers, backlog = read_workers(self._client, self._keys), read_backlog(self._client, self._keys)
        paused = read_hash(self._client, self._keys.paused).keys()
        with translated():
            memory = int(self._client.info("memory").get("maxmemory", 0))
        allowances = Allowances.read(self._client, self._keys)
        return replace(backlog, workers=workers, paused=paused, memory=memory, allowances=allowances)
