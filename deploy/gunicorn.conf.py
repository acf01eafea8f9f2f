"""gunicorn for the API: every way of running it (Procfile, container, tests) reads this file.

``WEB_CONCURRENCY`` is gunicorn's own variable for the number of processes; the rest comes from the settings.
"""

import os
from pathlib import Path
from typing import Any

import logs
from settings import get_settings

_settings = get_settings()

bind = f"{_settings.api_host}:{_settings.api_port}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
# Callers of the synchronous form each hold a thread while they wait, at most MAX_WAITERS in a process; the threads
# beyond that keep health checks and quick answers from queueing behind them.
threads = _settings.max_waiters + 32
# Longer than the longest wait, so that SIGTERM lets everyone who waits get an answer.
graceful_timeout = int(_settings.max_wait) + 5
# A gthread worker beats from its own loop: this ends a process that hangs, not a long wait.
timeout = 60
keepalive = 30
# The beat is a file that changes every second; where there is a file system in memory it need not touch the disk.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn makes the name itself
# The management socket lies in the home directory, where a second API of the same user would meet it.
control_socket_disable = True


def on_starting(_server: Any) -> None:
    """Give the master process the project's log format."""
    logs.configure(_settings, "api-master")
    logs.adopt("gunicorn.error", "gunicorn.access")


def post_worker_init(worker: Any) -> None:
    """Send the webhooks that an earlier process left behind, before anybody asks for a new one."""
    if _settings.webhook_secret:
        _ = worker.wsgi.extensions["inferlane"].outbox


def post_fork(_server: Any, _worker: Any) -> None:
    """Give each worker process the project's log format under its own name."""
    logs.configure(_settings, "api")
    logs.adopt("gunicorn.error", "gunicorn.access")
