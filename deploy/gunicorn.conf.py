"""gunicorn for the API: every way of running it (Procfile, container, tests) reads this file.

``WEB_CONCURRENCY`` is gunicorn's own variable for the number of processes; the rest comes from the settings.
"""

import logging
from typing import Any

import logs
from settings import get_settings

_settings = get_settings()

bind = f"{_settings.api_host}:{_settings.api_port}"
worker_class = "gthread"
# Callers of the synchronous form each hold a thread while they wait, at most MAX_WAITERS in a process; the threads
# beyond that keep health checks and quick answers from queueing behind them.
threads = _settings.max_waiters + 32
# Longer than the longest wait, so that SIGTERM lets everyone who waits get an answer.
graceful_timeout = int(_settings.max_wait) + 5
timeout = 60
keepalive = 30
# The management socket lies in the home directory, where a second API of the same user would meet it.
control_socket_disable = True


def on_starting(_server: Any) -> None:
    """Give the master process the project's log format."""
    _configure("api-master")


def post_fork(_server: Any, _worker: Any) -> None:
    """Give each worker process the project's log format under its own name."""
    _configure("api")


def _configure(process: str) -> None:
    logs.configure(_settings, process)
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # gunicorn's own; ours on the root logger writes the same lines once
        logger.propagate = True
