"""How the HTTP processes are served: by Granian, which parses HTTP and reads bodies outside Python.

A photo costs it about half of what a server written in Python takes (docs/performance.md). On SIGTERM it takes nothing
new and answers what it has.
"""

from __future__ import annotations

import gc

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

import logs
from settings import get_settings

#: The most bytes read ahead on a connection. Granian's own choice, 400 KB, is memory for each caller.
READ_BUFFER = 64 * 1024

#: Granian's own loggers, whose lines are to come out like all others.
LOGGERS = ("_granian", "granian.access")


def serve(
    target: str, *, name: str, host: str, port: int, processes: int, threads: int, patience: float,
    access_log: bool = False,
) -> None:  # fmt: skip
    """Serve a WSGI application until SIGTERM or SIGINT.

    Args:
        target: ``package.module:factory``, called in each process.
        name: what the log calls the process that watches the others.
        host: the address to listen on.
        port: the port to listen on.
        processes: how many; one that dies is started again.
        threads: how many requests each of them answers at a time.
        patience: seconds that a process may take to answer what it has before it is killed.
        access_log: whether to write a line per request.
    """
    logs.configure(get_settings(), f"{name}-master")
    Granian(
        target,
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        http1_settings=HTTP1Settings(max_buffer_size=READ_BUFFER),
        workers=processes,
        blocking_threads=threads,
        workers_kill_timeout=int(patience),
        respawn_failed_workers=True,
        respawn_interval=0.5,
        log_access=access_log,
        log_dictconfig={"loggers": {logger: {"handlers": [], "propagate": True} for logger in LOGGERS}},
    ).serve()


def settle() -> None:
    """Call when the application is complete: what is there now stays, and the collector need not look at it again.

    Besides saving time, that keeps the process small. Python leaves cycles (an HTTP client makes one for each answer)
    to its last collection, which waits until they are a quarter of everything that lives: megabytes of an application.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # which also counts anew what lives, now without what is frozen
