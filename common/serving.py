"""HTTP serving by Granian, which parses HTTP outside Python; checks of ``Host`` and of addresses.

A photo costs it about half of what a server written in Python takes (docs/performance.md). On SIGTERM it accepts
nothing new and finishes open calls.
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

#: Most bytes read ahead on a connection. Granian's default is 400 KB of memory per caller.
READ_BUFFER = 64 * 1024

#: Seconds for the next request's head to arrive on an open connection. Load balancers reuse one that was idle for up to
#: 75 seconds; Granian's default of 30 closes it under the request.
IDLE = 90

#: Concurrent requests of a process, including slow bodies, which the front limits.
BACKPRESSURE = 8192

#: Granian's loggers, to be formatted like all others.
LOGGERS = ("_granian", "granian.access")

#: Seconds between checks of the master by a process and the reverse.
LOOK = 0.5
#: A process that ends before this age in seconds is restarted after PAUSE seconds.
YOUNG = 5.0
PAUSE = 1.0
#: Seconds to wait for a port, which the processes of a killed master release when they notice.
PORT_TIMEOUT = 5.0


def serve(
    target: str, *, name: str, host: str, port: int, processes: int, patience: float,
    access_log: bool = False,
) -> None:  # fmt: skip
    """Serve a :class:`front.Front` until SIGTERM, SIGINT or SIGHUP.

    Args:
        target: ``package.module:factory``, called in each process.
        name: the master's name in the log.
        host: the address to listen on, or its name.
        port: the port to listen on.
        processes: how many; dead ones are restarted.
        patience: seconds for open calls before a stopping process is killed.
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
    """The address of ``host``, IPv4 if it has both."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        sys.exit(f"{name.upper()}_HOST: {error.strerror} (got {host!r})")
    return str(min(found)[4][0])


def _await_port(address: str, port: int) -> None:
    """End the process if the port is taken: the kernel would divide the callers between the listeners."""
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
    """Granian's master, which survives the death of a process.

    Granian ends all processes when one dies twice within seconds. Here it is restarted as long as another one serves or
    lived long enough to serve; the master ends only when none stays up.
    """

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        workers: list[Any] = self.wrks
        deaths: Counter[int] = Counter()  # consecutive early deaths of each process
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
                return  # not empty, so the exit status is 1
            for index in [index for index, at in due.items() if at <= now]:
                del due[index]
                workers[index] = self._spawn_worker(index, spawn_target, target_loader)
                workers[index].start()
            if not due:
                self.interrupt_children.clear()

    def signal_handler_reload(self, *_: Any) -> None:
        """Also end on SIGHUP, when the terminal closes."""
        self.signal_handler_interrupt()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Child:
    """Start of a process: arranges for its end, then makes the application.

    Attributes:
        master: the process that started it.
        patience: as for :func:`serve`.
    """

    master: int
    patience: float

    def __call__(self, target: str) -> Callable[..., Any]:
        """Make the application of ``target``."""
        # Drop the master's handlers, which do nothing here; Granian sets its own when all is loaded.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        threading.Thread(target=self._end_with_master, name="end-with-master", daemon=True).start()
        module, _, factory = target.partition(":")
        application: Callable[..., Any] = getattr(import_module(module), factory)()
        return application

    def _end_with_master(self) -> None:
        """End the process when its master has died; otherwise it would keep the port from the next master."""
        while os.getppid() == self.master:
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.patience)
        os._exit(1)


def settle() -> None:
    """Freeze the objects of the complete application for the garbage collector.

    This saves time and memory: Python's full collection waits until new objects are a quarter of all live ones, which
    are megabytes of an application.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # which also recounts live objects, without the frozen ones


def behind(app: Flask, proxies: int) -> None:
    """Trust so many proxies about the caller's address and TLS; 0 trusts none."""
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]


def loopback(host: str) -> bool:
    """Whether this name or address is loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def answers_to(host: str | None, bound: str, names: Collection[str]) -> bool:
    """Whether a server without keys should answer a request with this ``Host``.

    Against DNS rebinding: another site may resolve its name to this machine and then read answers through a browser,
    with its own name in ``Host``. A server on loopback answers to loopback names only; one on another address answers
    to all names if none are given, because it cannot know them.

    Args:
        host: the header, with or without a port; None or empty without one (never from a browser).
        bound: the server's listening address.
        names: further allowed host names.
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
    """Whether it is an address, which DNS cannot redirect; container probes use addresses."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
