"""Redis's configuration, memory and clock, for the doctor.

``INFO`` is allowed everywhere; a hosted Redis may hide ``CONFIG`` and its host's memory: such facts are None.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from common.settings import Settings
from tasks.protocol import servers, stores
from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys


def shared(settings: Settings) -> dict[str, Any]:
    """Settings in which workers and API must agree, as JSON; each worker reports its own."""
    return {
        "lease_ttl": settings.lease_ttl,
        "hard_timeout": settings.hard_timeout,
        "lane_order": settings.lane_order,
        "lane_weights": list(settings.lane_weights),
        "payload_store": stores.named(settings.payload_store),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Facts about a Redis server.

    Attributes:
        server: its name and version, for example ``Valkey 9.1.2``.
        policy: what it does when its memory is full: ``noeviction``, ``allkeys-lru``, ...
        appendonly: whether it writes an append-only file.
        write_error: whether its last write to that file failed.
        fsync: when that file reaches the disk: ``always``, ``everysec`` or ``no``.
        limit: bytes it may hold; 0 for no limit.
        used: bytes it holds.
        host_memory: bytes its host has.
        ahead: seconds by which this process's clock is ahead of Redis'.
        workers_ahead: worker id -> seconds by which its clock was ahead of Redis' at its last renewal.
    """

    server: str
    policy: str | None = None
    appendonly: bool | None = None
    write_error: bool = False
    fsync: str | None = None
    limit: int | None = None
    used: int = 0
    host_memory: int | None = None
    ahead: float = 0.0
    workers_ahead: Mapping[str, float] = field(default_factory=dict)


def read_vitals(client: Client, keys: Keys) -> Vitals:
    """Everything, read now; raises BrokerUnavailable when Redis does not answer."""
    with translated():
        info = client.info()
        aof = info.get("aof_enabled")
        return Vitals(
            server=" ".join(servers.identity(info)),
            policy=info.get("maxmemory_policy"),
            appendonly=None if aof is None else bool(aof),
            write_error=info.get("aof_last_write_status", "ok") != "ok",
            fsync=_fsync(client),
            limit=info.get("maxmemory"),
            used=int(info.get("used_memory", 0)),
            host_memory=info.get("total_system_memory"),
            ahead=_ahead(client),
            workers_ahead=_workers_ahead(client, keys),
        )


def _fsync(client: Client) -> str | None:
    try:
        found = client.config_get("appendfsync")
    except ResponseError:  # a hosted Redis may refuse CONFIG
        return None
    value = found.get("appendfsync")
    return value.decode() if isinstance(value, bytes) else value


def _ahead(client: Client) -> float:
    """This process's clock minus Redis's, which is read about halfway through the round trip."""
    before = time.time()
    there = _seconds(client.time())
    return (before + time.time()) / 2 - there


def _workers_ahead(client: Client, keys: Keys) -> dict[str, float]:
    """Each worker's clock minus Redis's at its last renewal, whose time follows from the rest of the lease."""
    boots = [boot.decode() for boot in client.hkeys(keys.workers)]
    if not boots:
        return {}
    # One transaction: a renewal in between would make a worker seem behind by the time between two renewals.
    with client.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.hmget(keys.workers, boots)
        for boot in boots:
            pipe.pttl(keys.lease(boot))
        now, descriptions, *left = pipe.execute()
    found = {}
    for description, milliseconds in zip(descriptions, left, strict=True):
        worker: dict[str, Any] = json.loads(description or b"{}")
        ttl = worker.get("configured", {}).get("lease_ttl")
        if ttl and milliseconds > 0:
            renewed = _seconds(now) - (float(ttl) - milliseconds / 1000)
            found[str(worker["id"])] = float(worker["last_heartbeat"]) - renewed
    return found


def _seconds(answer: tuple[int, int]) -> float:
    return answer[0] + answer[1] / 1e6
