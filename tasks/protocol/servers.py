"""The servers that Inferlane runs on: Redis 7.0 and later, Valkey 7.2 and later, neither as a cluster.

``make start``, workers, the API's readiness and the doctor all ask :func:`refusal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from tasks.errors import UnsupportedServer

#: The oldest release of each: ``SET NX GET`` and ACL rules for single subcommands came with Redis 7.0.
OLDEST = {"Redis": (7, 0), "Valkey": (7, 2)}
SUPPORTED = "Redis 7.0 or later, or Valkey 7.2 or later"


def release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``5.7.0rc1`` -> ``(5, 7)``."""
    return tuple(int(part) for part in takewhile(str.isdigit, text.split(".")))


def identity(info: Mapping[str, Any]) -> tuple[str, str]:
    """Name and version of a server, by its ``INFO server``; Valkey also names a version of Redis there."""
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info.get("redis_version", ""))


def refusal(info: Mapping[str, Any]) -> str:
    """Why a server cannot be used and what to do, in one line, by its ``INFO server``; empty when it can."""
    name, version = identity(info)
    if release(version) < OLDEST[name]:
        return f"{name} {version or 'of an unknown version'} is too old: run {SUPPORTED}"
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")):  # Valkey 9 renamed the field
        return (
            f"{name} runs as a cluster, which cannot hold the queue: run one without cluster-enabled, or with Sentinel"
        )
    return ""


def check(client: Any) -> None:
    """Raise UnsupportedServer if the server of a redis-py client cannot be used, RedisError if it does not answer."""
    if refused := refusal(client.info("server")):
        raise UnsupportedServer(refused)
