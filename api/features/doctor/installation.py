"""The input and the result of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from api.services import service
from common.settings import Settings
from tasks.errors import Unavailable
from tasks.inspect.monitor import Monitor
from tasks.inspect.redis_info import Vitals


@dataclass(frozen=True, slots=True)
class Check:
    """One result.

    Attributes:
        ok: None if it cannot be known here.
        remedy: what to do; empty when nothing is wrong.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The state of the installation.

    Attributes:
        settings: those of this API process.
        asks_for_keys: whether user routes ask for a key.
        proxied_from: the host name that a proxy forwards, ``""`` without a proxy.
        versions: package -> version, in this API process.
        vitals: of Redis; None when it does not answer.
        outage: why Redis does not answer.
        workers: live workers, from their leases.
    """

    settings: Settings
    asks_for_keys: bool
    proxied_from: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    vitals: Vitals | None = None
    outage: str = ""
    workers: Sequence[Mapping[str, Any]] = ()


Checks = Iterator[Check]
Look = Callable[[Installation], Checks]


def inspect(settings: Settings, **known: Any) -> Installation:
    """This installation; ``known`` is what only the caller knows."""
    known |= {"settings": settings, "versions": _installed("celery", "kombu", "redis")}
    monitor = service(Monitor)
    try:
        monitor.ping()
        return Installation(**known, vitals=monitor.vitals(), workers=monitor.workers())
    except Unavailable as error:
        return Installation(**known, outage=str(error))


def _installed(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def judged(name: str, wrong: Sequence[str], *, fine: str, remedy: str) -> Check:
    """A check that fails if ``wrong`` is not empty."""
    return Check(name, not wrong, "; ".join(wrong) if wrong else fine, remedy if wrong else "")
