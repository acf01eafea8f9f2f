"""A guardian's calls of Redis; imported when something is wrong, see :mod:`tasks.worker.guardian`."""

from __future__ import annotations

import logging
from functools import cache

from redis.exceptions import RedisError

from common import logs
from common.settings import Settings, get_settings
from tasks.errors import BrokerUnavailable
from tasks.protocol import connections
from tasks.protocol.connections import Client
from tasks.worker.registration import Registration
from tasks.worker.rescue import Rescuer

log = logging.getLogger(__name__)


def renew(boot: str) -> None:
    """Renew the lease for the worker."""
    try:
        Registration(*_redis()).renew(boot)
    except (RedisError, BrokerUnavailable, OSError) as error:
        log.warning("the lease of %s could not be renewed: %s", boot, error)


def bury(boot: str, verdict: str, how: str) -> None:
    """Record how the worker ended, and return its requests."""
    say(f"worker {boot} ended: {how}")
    try:
        Rescuer(*_redis()).bury(boot, verdict)
    except (RedisError, BrokerUnavailable, OSError) as error:
        log.warning("the others will notice that %s is dead: %s", boot, error)


def say(text: str) -> None:
    """A warning in the log."""
    _settings()
    log.warning("%s", text)


@cache
def _settings() -> Settings:
    settings = get_settings()
    logs.configure(settings, process="guardian")
    return settings


@cache
def _redis() -> tuple[Client, Settings]:
    settings = _settings()
    return connections.prompt(settings.redis_url), settings
