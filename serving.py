"""How the HTTP processes are served: by Granian, which parses HTTP and reads bodies outside Python; and for whom.

A photo costs it about half of what a server written in Python takes (docs/performance.md). On SIGTERM it takes nothing
new and answers what it has.
"""

from __future__ import annotations

import gc
import ipaddress
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from werkzeug.middleware.proxy_fix import ProxyFix

import logs
from settings import get_settings

if TYPE_CHECKING:
    from flask import Flask

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


def behind(app: Flask, proxies: int) -> None:
    """Have ``app`` believe so many proxies about the caller's address and whether it came by TLS; 0 believes nobody."""
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]


def loopback(host: str) -> bool:
    """Whether this name or address leads to this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def answers_to(host: str | None, bound: str, names: Collection[str]) -> bool:
    """Whether a server without a lock of its own should answer a request with this ``Host``.

    A page of another site can have its own name lead to this machine (DNS rebinding): to a browser, the server is then
    that site, and the page may read its answers. ``Host`` still has that name. A server on a loopback address answers
    to loopback names; one that others reach answers to all while no names are given, since it cannot know them.

    Args:
        host: the header, with or without a port; None or empty when there is none, as no browser sends.
        bound: where the server listens.
        names: further host names it answers to.
    """
    if not host:
        return True
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in {bound.lower(), *(known.lower() for known in names)}:
        return True
    if loopback(bound):
        return loopback(name)
    return not names or _is_address(name)


def _is_address(name: str) -> bool:
    """Whether it is an address, which nobody can have lead elsewhere; probes of containers call it."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
