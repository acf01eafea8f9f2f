"""Serves the HTTP processes with Granian, and checks the host names they are called by.

Granian parses HTTP outside Python, at about half the cost of a server in Python (docs/performance.md). On SIGTERM it
accepts nothing new and answers open requests.
"""

from __future__ import annotations

import errno
import gc
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.server import MPServer
from werkzeug.middleware.proxy_fix import ProxyFix

from common import logs
from common.settings import get_settings

if TYPE_CHECKING:
    from flask import Flask

#: The most bytes read ahead on a connection. Granian's default, 400 KB, is memory for each caller.
READ_BUFFER = 64 * 1024
#: Seconds for the next request's head to arrive on an open connection. Load balancers reuse one that was idle for up to
#: 75 seconds; Granian's default of 30 closes it under the request.
IDLE = 90
#: Requests that a process has at a time, slow bodies included; the front bounds those.
BACKPRESSURE = 8192
#: Granian's loggers, whose lines should look like all others.
LOGGERS = ("_granian", "granian.access")
#: Seconds between two checks: of the master on its processes, of a process on its master.
CHECK_INTERVAL = 0.5
#: A process that ends younger than this many seconds is restarted after a pause of RESTART_PAUSE seconds.
YOUNG = 5.0
RESTART_PAUSE = 1.0
#: The icon of a browser's tab: three lanes.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3.5" fill="#4263eb"/>'
    '<path d="M4 5h8M4 8h5M4 11h7" stroke="#fff" stroke-width="1.8" stroke-linecap="round"/></svg>'
)
#: Seconds to wait for a port: the processes of a killed master release it when they notice.
PORT_TIMEOUT = 5.0


def serve(
    target: str, *, name: str, host: str, port: int, processes: int, patience: float,
    access_log: bool = False,
) -> None:  # fmt: skip
    """Serve a :class:`common.front.Front` until SIGTERM, SIGINT or SIGHUP.

    Args:
        target: ``package.module:factory``, called in each process.
        name: the server's name in the log and in error messages.
        host: the address to listen on, or a name of it.
        port: the port to listen on.
        processes: how many; one that dies is restarted.
        patience: seconds that a process may take to answer its open requests before it is killed.
        access_log: whether to write a line per request.
    """
    logs.configure(get_settings(), f"{name}-master")
    address = _address(name, host)
    _await_port(address, port)
    Master(
        target,
        address=address,
        port=port,
        interface=Interfaces.RSGI,
        loop=Loops.auto,
        backpressure=BACKPRESSURE,
        http=HTTPModes.http1,
        websockets=False,
        http1_settings=HTTP1Settings(max_buffer_size=READ_BUFFER, header_read_timeout=IDLE * 1000),
        workers=processes,
        workers_kill_timeout=int(patience),
        log_access=access_log,
        log_dictconfig={"loggers": {logger: {"handlers": [], "propagate": True} for logger in LOGGERS}},
    ).serve(target_loader=partial(_load, os.getpid(), patience))


def _address(name: str, host: str) -> str:
    """The address that ``host`` names, of IP version 4 where it has both."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        sys.exit(f"{name.upper()}_HOST: {error.strerror} (got {host!r})")
    return str(min(found)[4][0])


def _await_port(address: str, port: int) -> None:
    """End the process if something else listens there: the kernel would divide the callers between them."""
    deadline = time.monotonic() + PORT_TIMEOUT
    while True:
        try:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
                return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                sys.exit(f"cannot listen on {address} port {port}: {error.strerror}")
        time.sleep(0.1)


class Master(MPServer):
    """Granian's master, except that one process in a crash loop does not end the others.

    Granian ends all of them when one dies twice within seconds. Here it is restarted for as long as another one serves
    or has lived long enough to serve; the master ends when none can be kept up.
    """

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        workers: list[Any] = self.wrks
        early_deaths: Counter[int] = Counter()  # of each process, in a row
        due: dict[int, float] = {}
        while not self.interrupt_signal:
            self.main_loop_interrupt.wait(CHECK_INTERVAL)
            self.main_loop_interrupt.clear()
            now = time.monotonic()
            for worker in workers:
                if worker.idx not in due and not worker.is_alive():
                    early_deaths[worker.idx] = early_deaths[worker.idx] + 1 if now - worker.birth < YOUNG else 0
                    due[worker.idx] = now + (RESTART_PAUSE if early_deaths[worker.idx] > 1 else 0.0)
            if all(early_deaths[worker.idx] > 1 and now - worker.birth < YOUNG for worker in workers):
                return  # interrupt_children is not empty, so the exit status is 1
            for index in [index for index, at in due.items() if at <= now]:
                del due[index]
                workers[index] = self._spawn_worker(index, spawn_target, target_loader)
                workers[index].start()
            if not due:
                self.interrupt_children.clear()

    def signal_handler_reload(self, *_: Any) -> None:
        """SIGHUP, the end of its terminal, ends it too."""
        self.signal_handler_interrupt()  # type: ignore[no-untyped-call]


def _load(master: int, patience: float, target: str) -> Callable[..., Any]:
    """The application of a process of ``master``, which ends when its master does."""
    # A fork has its master's handlers, which do nothing here; Granian sets new ones once the application is loaded.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(master, patience), name="end-with-master", daemon=True).start()
    module, _, factory = target.partition(":")
    application: Callable[..., Any] = getattr(import_module(module), factory)()
    return application


def _end_with(master: int, patience: float) -> None:
    """End this process with its master: nothing would restart or end it, and it would keep the port."""
    while os.getppid() == master:
        time.sleep(CHECK_INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os._exit(1)


def settle() -> None:
    """Exempt a complete application from garbage collection.

    That saves time and memory: a full collection waits until garbage is a quarter of all live objects.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # counts live objects anew, without the frozen ones


def behind(app: Flask, proxies: int) -> None:
    """Trust this many proxies for the caller's address and scheme."""
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]


def icon() -> tuple[str, dict[str, str]]:
    """The answer to ``/favicon.ico``, for which browsers ask every site."""
    return ICON, {"Content-Type": "image/svg+xml", "Cache-Control": "max-age=86400"}


def loopback(host: str) -> bool:
    """Whether this name or address leads to this machine only."""
    address = _address_of(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def answers_to(host: str | None, bound: str, names: Collection[str]) -> bool:
    """Whether a server that requires no key should answer a request with this ``Host``.

    A page of another site can point its own name at this machine (DNS rebinding) and read the answers; ``Host`` has
    that name. A server on a loopback address answers to loopback names. Any other answers to all names until some are
    configured, and always to addresses, which cannot be rebound and which container probes call.
    ``bound`` is the address the server listens on, ``names`` are further names. Browsers always send the header.
    """
    if not host:
        return True
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in {bound.lower(), *(known.lower() for known in names)}:
        return True
    return loopback(name) if loopback(bound) else not names or _address_of(name) is not None


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
