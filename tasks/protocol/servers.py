"""The servers that Inferlane runs on: Redis 7.0 and later, Valkey 7.2 and later, neither as a cluster.

:func:`refusal` is the one judge: ``make start``, workers, the API's readiness and the doctor ask it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.errors import UnsupportedServer

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The oldest release of each: ``SET NX GET`` and ACL rules for single subcommands came with Redis 7.0.
OLDEST = {"Redis": (7, 0), "Valkey": (7, 2)}
SUPPORTED = "Redis 7.0 or later, or Valkey 7.2 or later"


def release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``5.7.0rc1`` -> ``(5, 7)``; what is no number ends it."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


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
    # Valkey 9 has renamed the field.
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        return (
            f"{name} runs as a cluster, which cannot hold the queue: run one without cluster-enabled, or with Sentinel"
        )
    return ""


def check(client: Any) -> None:
    """Ask the server of a redis-py client what it is.

    Raises:
        UnsupportedServer: it cannot be used.
        redis.RedisError: it does not answer.
    """
    if refused := refusal(client.info("server")):
        raise UnsupportedServer(refused)
