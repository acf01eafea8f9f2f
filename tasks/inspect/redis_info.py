"""How Redis is set up and what time it is for everybody, for somebody who looks for mistakes. It changes nothing.

``INFO`` is allowed everywhere; ``CONFIG`` and the memory of the host are not told by every hosted Redis, so those facts
may be None: unknown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from common.settings import Settings
from tasks.protocol import connections, servers
from tasks.protocol.connections import translated
from tasks.protocol.keys import Keys


def shared(settings: Settings) -> dict[str, Any]:
    """Settings in which workers and API must agree, as JSON has them; each worker tells its own in its lease."""
    return {
        "lease_ttl": settings.lease_ttl,
        "hard_timeout": settings.hard_timeout,
        "lane_order": settings.lane_order,
        "lane_weights": list(settings.lane_weights),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What was found.

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


class Examiner:
    """Asks the Redis of these settings."""

    def __init__(self, settings: Settings) -> None:
        self._client = connections.prompt(settings.redis_url)
        self._keys = Keys(settings.key_prefix)

    def vitals(self) -> Vitals:
        """Everything, read now.

        Raises:
            Unavailable: Redis does not answer.
        """
        with translated():
            info = self._client.info()
            return Vitals(
                server=" ".join(servers.identity(info)),
                policy=info.get("maxmemory_policy"),
                appendonly=_switch(info.get("aof_enabled")),
                write_error=info.get("aof_last_write_status", "ok") != "ok",
                fsync=self._fsync(),
                limit=info.get("maxmemory"),
                used=int(info.get("used_memory", 0)),
                host_memory=info.get("total_system_memory"),
                ahead=self._ahead(),
                workers_ahead=self._workers_ahead(),
            )

    def _fsync(self) -> str | None:
        try:
            found = self._client.config_get("appendfsync")
        except ResponseError:  # a hosted Redis keeps CONFIG to itself
            return None
        value = found.get("appendfsync")
        return value.decode() if isinstance(value, bytes) else value

    def _ahead(self) -> float:
        """Our clock when Redis looked at its own is about halfway between asking and being told."""
        before = time.time()
        there = _seconds(self._client.time())
        return (before + time.time()) / 2 - there

    def _workers_ahead(self) -> dict[str, float]:
        """A renewal sets a fresh time to live, so what is left of it tells when, by Redis' clock, it came."""
        boots = [boot.decode() for boot in self._client.hkeys(self._keys.workers)]
        if not boots:
            return {}
        # One transaction: a renewal in between would make a worker seem behind by the time between two renewals.
        with self._client.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hmget(self._keys.workers, boots)
            for boot in boots:
                pipe.pttl(self._keys.lease(boot))
            now, descriptions, *left = pipe.execute()
        return dict(_worker_ahead(_seconds(now), descriptions, left))


def _worker_ahead(now: float, descriptions: Sequence[bytes | None], left: Sequence[int]) -> list[tuple[str, float]]:
    found = []
    for description, milliseconds in zip(descriptions, left, strict=True):
        worker: dict[str, Any] = json.loads(description or b"{}")
        ttl = worker.get("configured", {}).get("lease_ttl")
        if ttl and milliseconds > 0:
            renewed = now - (float(ttl) - milliseconds / 1000)
            found.append((str(worker["id"]), float(worker["last_heartbeat"]) - renewed))
    return found


def _seconds(answer: tuple[int, int]) -> float:
    return answer[0] + answer[1] / 1e6


def _switch(value: int | None) -> bool | None:
    return None if value is None else bool(value)
