"""How the HTTP processes are served: by Granian, which parses HTTP and reads bodies outside Python; and for whom.

A photo costs it about half of what a server written in Python takes (docs/performance.md). On SIGTERM it takes nothing
new and answers what it has.
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
from dataclasses import dataclass
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

#: The most bytes read ahead on a connection. Granian's own choice, 400 KB, is memory for each caller.
READ_BUFFER = 64 * 1024

#: Seconds for the next request's head to arrive on an open connection. Load balancers reuse one that was idle for up to
#: 75 seconds; Granian's default of 30 closes it under the request.
IDLE = 90

#: Requests that a process has at a time, slow bodies included; the front bounds those.
BACKPRESSURE = 8192

#: Granian's own loggers, whose lines are to come out like all others.
LOGGERS = ("_granian", "granian.access")

#: Seconds between two looks: of the master at its processes, of a process at its master.
LOOK = 0.5
#: A process that ends younger than this many seconds is started again after a pause of PAUSE seconds.
YOUNG = 5.0
PAUSE = 1.0
#: Seconds to wait for a port: the processes of a killed master let go of it when they notice.
PORT_TIMEOUT = 5.0


def serve(
    target: str, *, name: str, host: str, port: int, processes: int, patience: float,
    access_log: bool = False,
) -> None:  # fmt: skip
    """Serve a :class:`front.Front` until SIGTERM, SIGINT or SIGHUP.

    Args:
        target: ``package.module:factory``, called in each process.
        name: what the log calls the process that watches the others.
        host: the address to listen on, or a name of it.
        port: the port to listen on.
        processes: how many; one that dies is started again.
        patience: seconds that a process may take to answer what it has before it is killed.
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
        loop=Loops.asyncio,
        backpressure=BACKPRESSURE,
        http=HTTPModes.http1,
        websockets=False,
        http1_settings=HTTP1Settings(max_buffer_size=READ_BUFFER, header_read_timeout=IDLE * 1000),
        workers=processes,
        workers_kill_timeout=int(patience),
        log_access=access_log,
        log_dictconfig={"loggers": {logger: {"handlers": [], "propagate": True} for logger in LOGGERS}},
    ).serve(target_loader=Child(os.getpid(), patience))


def _address(name: str, host: str) -> str:
    """The address that ``host`` names, of IP version 4 where it has both."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        sys.exit(f"{name.upper()}_HOST: {error.strerror} (got {host!r})")
    return str(min(found)[4][0])


def _await_port(address: str, port: int) -> None:
    """End the process when something else listens there: the kernel would give each of them a share of the callers."""
    deadline = time.monotonic() + PORT_TIMEOUT
    while (error := _bind(address, port)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            sys.exit(f"cannot listen on {address} port {port}: {error.strerror}")
        time.sleep(0.1)


def _bind(address: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error
    return None


class Master(MPServer):
    """Granian's master, for which the death of one process is no reason to end the others.

    Granian ends them all when one dies twice within seconds. Here it is started again for as long as another one
    serves or lived long enough to serve; only when none can be kept up does the master end, and its supervisor tells.
    """

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        workers: list[Any] = self.wrks
        deaths: Counter[int] = Counter()  # of each process: how often it died young, one time after the other
        due: dict[int, float] = {}
        while not self.interrupt_signal:
            self.main_loop_interrupt.wait(LOOK)
            self.main_loop_interrupt.clear()
            now = time.monotonic()
            for worker in workers:
                if worker.idx not in due and not worker.is_alive():
                    deaths[worker.idx] = deaths[worker.idx] + 1 if now - worker.birth < YOUNG else 0
                    due[worker.idx] = now + (PAUSE if deaths[worker.idx] > 1 else 0.0)
            if all(deaths[worker.idx] > 1 and now - worker.birth < YOUNG for worker in workers):
                return  # interrupt_children is not empty, so the exit status is 1
            for index in [index for index, at in due.items() if at <= now]:
                del due[index]
                workers[index] = self._spawn_worker(index, spawn_target, target_loader)
                workers[index].start()
            if not due:
                self.interrupt_children.clear()

    def signal_handler_reload(self, *_: Any) -> None:
        """SIGHUP ends it, too: the terminal it belongs to has gone."""
        self.signal_handler_interrupt()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Child:
    """What a process does first: it sees to its own end, then makes the application.

    Attributes:
        master: the process that started it.
        patience: as for :func:`serve`.
    """

    master: int
    patience: float

    def __call__(self, target: str) -> Callable[..., Any]:
        """The application that ``target`` makes."""
        # A fork has its master's handlers, which would do nothing here; Granian sets new ones when all is loaded.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        threading.Thread(target=self._end_with_master, name="end-with-master", daemon=True).start()
        module, _, factory = target.partition(":")
        application: Callable[..., Any] = getattr(import_module(module), factory)()
        return application

    def _end_with_master(self) -> None:
        """Without it nobody would start this process again or end it, and its port would be lost to the next master."""
        while os.getppid() == self.master:
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.patience)
        os._exit(1)


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
