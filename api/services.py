"""Shared instances: ``service(Gateway)`` is the current app's Gateway.

Each is created from the settings at its first use, because sockets and threads do not survive the server's fork.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from flask import current_app

from common.settings import Settings

Service = TypeVar("Service")
Factories = Mapping[Callable[[Settings], Any], Callable[[Settings], Any]]

EXTENSION = "inferlane"


class Services:
    """The instances of one app in one process; ``factories`` replace classes or functions, for example by fakes."""

    def __init__(self, settings: Settings, factories: Factories | None = None) -> None:
        self.settings = settings
        self._factories = factories or {}
        self._made: dict[Callable[[Settings], Any], Any] = {}
        self._lock = threading.RLock()  # a factory may ask for other services

    def get(self, kind: Callable[[Settings], Service]) -> Service:
        """The instance of ``kind``, a class or function of the settings."""
        if kind not in self._made:
            with self._lock:
                if kind not in self._made:
                    made = self._made[kind] = self._factories.get(kind, kind)(self.settings)
                    if hasattr(made, "close"):
                        atexit.register(made.close)
        return cast("Service", self._made[kind])


def services() -> Services:
    """The services of the current app."""
    return cast("Services", current_app.extensions[EXTENSION])


def service(kind: Callable[[Settings], Service]) -> Service:
    """The instance of ``kind`` in this process."""
    return services().get(kind)


def app_settings() -> Settings:
    """The settings of this process."""
    return services().settings
