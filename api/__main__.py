"""``python -m api``: the API under Granian, in ``WEB_CONCURRENCY`` processes (two unless it says otherwise).

Every way of running it (Procfile, container, tests) starts it like this. Granian parses HTTP and reads bodies outside
Python; a photo costs it about half of what a server in Python takes (docs/performance.md).
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from granian import Granian
from granian.constants import HTTPModes, Interfaces

import logs
from api.app import create_app
from settings import get_settings

if TYPE_CHECKING:
    from flask import Flask

#: Granian's own, whose lines are to come out like all others.
LOGGERS = ("_granian", "granian.access")


def application() -> Flask:
    """The application of one process, which logs under its own name and no longer looks for garbage in its modules."""
    logs.configure(get_settings(), "api")
    app = create_app()
    gc.collect()
    gc.freeze()
    return app


def main() -> None:
    """Serve until SIGTERM or SIGINT; whoever waits for an answer then still gets it."""
    settings = get_settings()
    logs.configure(settings, "api-master")
    create_app()  # a wrong setting is told once, here, and not by every process again and again
    server = Granian(
        "api.__main__:application",
        factory=True,
        address=settings.api_host,
        port=settings.api_port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=int(os.environ.get("WEB_CONCURRENCY", "2")),
        # Callers of the synchronous form each hold a thread while they wait, at most MAX_WAITERS in a process; the
        # threads beyond that keep health checks and quick answers from queueing behind them.
        blocking_threads=settings.max_waiters + 32,
        # Longer than the longest wait.
        workers_kill_timeout=int(settings.max_wait) + 5,
        respawn_failed_workers=True,
        respawn_interval=0.5,
        log_dictconfig={"loggers": {name: {"handlers": [], "propagate": True} for name in LOGGERS}},
    )
    server.serve()


if __name__ == "__main__":
    main()
