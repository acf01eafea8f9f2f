"""Read-only snapshots: workers, lanes, ledger, counters, latencies, recent requests."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from common.settings import Settings
from tasks.inspect.history import STAGES, History, summary
from tasks.inspect.redis_info import Vitals, read_vitals
from tasks.inspect.search import search
from tasks.lanes import Lane, all_lanes
from tasks.producer.live_workers import QueueLoad, Worker, read_backlog, read_queued, read_register
from tasks.protocol import connections, servers, usage
from tasks.protocol.allowances import Allowances
from tasks.protocol.connections import read_hash, translated
from tasks.protocol.keys import Keys
from tasks.protocol.owners import known_owners, owner_of
from tasks.protocol.records import Records
from tasks.protocol.requests import Request, State
from tasks.protocol.turns import Backlog, heads

LEDGER = ("accepted", "succeeded", "failed", "canceled", "expired", "queued", "running")
#: Events that are counted besides the ledger; each is reported, zero or not.
COUNTERS = (
    "retried", "rescued", "redelivered", "given_back", "fenced", "healed", "republished",
    "dead_lettered", "requeued", "refused", "workers_joined", "workers_left", "workers_lost",
)  # fmt: skip
#: Upper bounds of the latency buckets, in seconds; the last one is open. ``_prelude.lua`` fills them.
BOUNDS = [2 ** (bucket / 2) / 1000 for bucket in range(40)]


class Monitor:
    """Reads what the Lua scripts write. Every method raises :class:`tasks.errors.BrokerUnavailable` within a second."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.key_prefix)
        self._client = connections.prompt(settings.redis_url)
        self._history = History(self._client, self._keys)
        self.history, self.window, self.ends = self._history.rows, self._history.window, self._history.ends
        self.recent = partial(search, Records(self._client, settings))

    def ping(self) -> None:
        """Check that Redis answers and can hold the queue."""
        with translated():
            servers.check(self._client)

    def vitals(self) -> Vitals:
        """How Redis is configured and what its clock says."""
        return read_vitals(self._client, self._keys)

    def workers(self) -> list[Worker]:
        """The workers that hold a lease, by name."""
        return sorted(read_register(self._client, self._keys)[0], key=lambda worker: worker["id"])

    def silent(self) -> list[Worker]:
        """Registered workers whose lease has expired and that are not rescued yet, by name."""
        return sorted(read_register(self._client, self._keys)[1], key=lambda worker: worker["id"])

    def fleet_events(self, limit: int = 50) -> list[dict[str, Any]]:
        """Which workers joined, left or were lost, newest first.

        Each has ``at`` (epoch), ``event``, ``worker`` (node name), ``model``, and ``held``: how many requests it held
        when it was lost.
        """
        with translated():
            lines = self._client.lrange(self._keys.worker_events, 0, limit - 1)
        events = [json.loads(line) for line in lines]
        return [{"held": 0, **event, "worker": event["worker"].rpartition("/")[0]} for event in events]

    def batch_sizes(self) -> dict[str, dict[int, int]]:
        """Lane of the model that answered -> size of the forward pass -> how many answers shared one of that size."""
        lanes: dict[str, dict[int, int]] = defaultdict(dict)
        for name, value in self._hash(self._keys.batches).items():
            lane, _, size = name.rpartition(":")
            lanes[lane][int(size)] = int(value)
        return lanes

    def dead_letter_count(self, owner: str | None = None) -> int:
        """The number of dead letters, of all owners or of one."""
        with translated():
            if owner is None:
                return int(self._client.zcard(self._keys.dead_letters))
            return sum(owner_of(name.decode()) == owner for name in self._client.zrange(self._keys.dead_letters, 0, -1))

    def ledger(self) -> dict[str, dict[str, int]]:
        """Per lane, the conservation ledger: accepted = succeeded + failed + canceled + expired + queued + running."""
        lanes: dict[str, dict[str, int]] = {}
        for name, value in self._hash(self._keys.ledger).items():
            lane, _, state = name.rpartition(":")
            lanes.setdefault(lane, dict.fromkeys(LEDGER, 0))[state] = int(value)
        return lanes

    def counters(self) -> dict[str, int]:
        """Events since the beginning: :data:`COUNTERS`."""
        counted = {name: int(value) for name, value in self._hash(self._keys.counters).items()}
        return dict.fromkeys(COUNTERS, 0) | counted

    def usage(self, owner: str | None = None, days: int = usage.DAYS) -> list[usage.Row]:
        """The usage of this owner, or of all, in the last UTC days; see :func:`tasks.protocol.usage.read`."""
        return usage.read(self._client, self._keys, self._owners(owner), days)

    def owners(self, owner: str | None = None) -> list[dict[str, Any]]:
        """A row for each owner, or for this one: weight, queued requests, rates and shares, the sums of today, quota.

        Queued requests are estimated by an owner's share of the messages, which may carry several.
        """
        names, load = self._owners(owner), read_backlog(self._client, self._keys)
        rows, lately, quotas = self.usage(owner, 1), self._history.lately(names), self._quotas(names)
        with translated():
            weights = self._hash(self._keys.owner_weights)
        return [
            {
                "owner": name,
                "weight": float(weights.get(name, 1)),
                "queued": round(sum(load.queued[lane] * share for lane, share in load.waiting.shares(name).items())),
                **lately[name],
                "today": usage.total(row for row in rows if row["owner"] == name),
                "quota": quotas.get(name),
            }
            for name in names
        ]

    def _owners(self, owner: str | None) -> list[str]:
        return sorted(known_owners(self._client, self._keys)) if owner is None else [owner]

    def quota(self, owner: str) -> dict[str, Any] | None:
        """The owner's quota: its ``limit``, how much is ``used`` and ``left``, and when it ``resets`` (epoch)."""
        return self._quotas([owner]).get(owner)

    def _quotas(self, owners: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of these owners that have one."""
        allowances, found = Allowances.read(self._client, self._keys), {}
        for owner in owners:
            if limit := allowances.quota(owner, self._settings):
                used = allowances.used(self._client, self._keys, owner)
                left, resets = max(0, limit - used), allowances.resets.timestamp()
                found[owner] = {"limit": limit, "used": used, "left": left, "resets": resets}
        return found

    def paused(self) -> dict[str, dict[str, Any]]:
        """Paused lanes, with who paused them and when."""
        return {name: json.loads(value) for name, value in self._hash(self._keys.paused).items()}

    def lanes(self, workers: Sequence[Worker] | None = None) -> list[dict[str, Any]]:
        """Every lane: depth, running, the age in seconds of its oldest request, rates over the last minute, paused.

        ``workers`` is a recent result of :meth:`workers`; without it they are read again.
        """
        ledger, paused, rates = self.ledger(), self.paused(), self._history.rates()
        workers = self.workers() if workers is None else workers
        models = {*self._settings.models, *(worker["model"] for worker in workers)}
        lanes = [Lane.parse(name) for name in dict.fromkeys([*all_lanes(sorted(models)), *ledger])]
        load = QueueLoad(workers, {name: row["queued"] for name, row in ledger.items()}, paused)
        ages = self._ages([lane.name for lane in lanes])
        return [
            {
                "lane": lane.name,
                "priority": lane.priority,
                "model": lane.model,
                "depth": load.queued.get(lane.name, 0),
                "running": ledger.get(lane.name, {}).get("running", 0),
                "oldest_age": ages.get(lane.name),
                "rate_in": rates[lane.name, "in"],
                "rate_out": rates[lane.name, "out"],
                "eta": load.expected_wait(lane.model, lane.priority),
                "paused": lane.name in paused,
            }
            for lane in lanes
        ]

    def _ages(self, names: Sequence[str]) -> dict[str, float]:
        """Age in seconds of the oldest request of each lane: constant time, however long the lane is."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            found = [(name, head) for name, ids in heads(self._client, self._keys, names).items() for head in ids]
            for _, request_id in found:
                pipe.hget(self._keys.request(request_id), "created")
            created, now = zip(found, pipe.execute(), strict=True), time.time()
        ages: dict[str, float] = {}
        for (name, _), at in created:
            if at is not None:
                ages[name] = max(ages.get(name, 0.0), round(now - float(at), 3))
        return ages

    def latencies(self) -> dict[str, dict[str, float]]:
        """Per stage: p50, p95, p99 in seconds (upper bound of the bucket that holds it), mean and count."""
        stages: dict[str, dict[str, float]] = {stage: defaultdict(float) for stage in (*STAGES, "eta_error")}
        for (_, stage), buckets in self.histograms().items():
            for bucket, value in buckets.items():
                stages[stage][bucket] += value
        return {stage: summary(buckets) for stage, buckets in stages.items()}

    def histograms(self) -> dict[tuple[str, str], dict[str, float]]:
        """(lane, stage) -> bucket number (as text) -> count, and ``sum`` in seconds; see :data:`BOUNDS`.

        Requests of a shared lane count under the lane of the model that answered; the shared lane has only those that
        ended without a model: canceled, purged, expired.
        """
        histograms: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        for name, value in self._hash(self._keys.latency).items():
            lane, stage, bucket = name.rsplit(":", 2)
            histograms[lane, stage][bucket] = int(value) / 1e6 if bucket == "sum" else int(value)
        return histograms

    def queue_position(self, request: Request) -> int | None:
        """About how many requests of its lane are served before it, plus one; None unless queued.

        From two places given out at acceptance and, in a shared lane, the other owners' turns: constant time per owner.
        Cancellations in between are ignored.
        """
        if request.state is not State.QUEUED:
            return None
        with translated():
            owner, first_of = owner_of(request.id), heads(self._client, self._keys, [request.lane])
            first = next((i for i in first_of.get(request.lane, ()) if owner_of(i) == owner), request.id)
            places = [self._client.hget(self._keys.request(i), "place") or 0 for i in (first, request.id)]
            waiting = Backlog.read(self._client, self._keys, [request.lane])
        queued = read_queued(self._client, self._keys).get(request.lane, 0)
        before = max(0, int(places[1]) - int(places[0]))
        return 1 + round(waiting.ahead(request.lane, owner, queued, before))

    def eta(self, request: Request) -> float | None:
        """Seconds until a queued request is expected to start; None when unknown, not queued, or in a paused lane."""
        if request.state is not State.QUEUED:
            return None
        load = replace(
            read_backlog(self._client, self._keys), workers=self.workers(), paused=self._hash(self._keys.paused)
        )
        return load.expected_wait(Lane.parse(request.lane).model, request.priority, owner_of(request.id))

    def _hash(self, key: str) -> dict[str, str]:
        return read_hash(self._client, key)
