"""gunicorn for the dashboard: one process, since all its pages show the same few answers of the API."""

from typing import Any

import logs
from settings import get_settings

_settings = get_settings()

bind = f"{_settings.dashboard_host}:{_settings.dashboard_port}"
worker_class = "gthread"
threads = 16
graceful_timeout = 5
keepalive = 30
control_socket_disable = True


def on_starting(_server: Any) -> None:
    """Give the master process the project's log format."""
    logs.configure(_settings, "dashboard-master")
    logs.adopt("gunicorn.error", "gunicorn.access")


def post_fork(_server: Any, _worker: Any) -> None:
    """Give the worker process the project's log format."""
    logs.configure(_settings, "dashboard")
    logs.adopt("gunicorn.error", "gunicorn.access")
