"""The network between one process and Redis, as something a test can cut and heal."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Proxy(socketserver.ThreadingTCPServer):
    """A TCP proxy on a free loopback port in front of ``target``, another loopback port.

    A cut has two forms. *Stalled* lines stay open and silent, as behind a router that lost its route: what was sent
    meanwhile arrives after the healing, also from a sender that has given up, just as a kernel would retransmit it.
    *Broken* lines end at once and new ones end as soon as they begin, as behind a firewall that rejects.
    """

    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Line)
        self.target = target
        self.port = int(self.server_address[1])
        self.broken = False
        #: What a test may put in between: it sees all bytes of both directions, as they come.
        self.translate: Callable[[bytes], bytes] = lambda data: data
        self.flowing = threading.Event()
        self.flowing.set()
        self._lines: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="proxy")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def lead_to(self, target: int) -> None:
        """Take new connections to another port; those that are open stay where they are."""
        self.target = target

    def cut(self, *, stall: bool) -> None:
        """Let nothing through until :meth:`heal`."""
        if stall:
            self.flowing.clear()
        else:
            self.broken = True
            self._end_lines()

    def heal(self) -> None:
        """Let everything through again."""
        self.broken = False
        self.flowing.set()

    def join_lines(self, *ends: socket.socket) -> None:
        """Remember both ends of a line while it is in use."""
        with self._lock:
            self._lines.update(ends)
        if self.broken:
            self._end_lines()

    def leave_lines(self, *ends: socket.socket) -> None:
        """Forget them; their owners close them."""
        with self._lock:
            self._lines.difference_update(ends)

    def _end_lines(self) -> None:
        with self._lock:
            for end in self._lines:
                hang_up(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.shutdown()
        self.cut(stall=False)
        self.flowing.set()
        self._thread.join()
        self.server_close()


class _Line(socketserver.BaseRequestHandler):
    """One connection: two threads, each carrying bytes in one direction."""

    server: Proxy
    request: socket.socket

    def handle(self) -> None:
        if self.server.broken:
            return
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(self._target) as redis:
            self.server.join_lines(self.request, redis)
            answers = threading.Thread(target=self._carry, args=(redis, self.request), name="proxy answers")
            answers.start()
            self._carry(self.request, redis)
            answers.join()
            self.server.leave_lines(self.request, redis)

    @property
    def _target(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.target

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # an end that was hung up: the line is over
            while data := source.recv(65536):
                self.server.flowing.wait()
                sink.sendall(self.server.translate(data))
        hang_up(source)
        hang_up(sink)


def hang_up(end: socket.socket) -> None:
    """End a connection in both directions and wake its readers."""
    with contextlib.suppress(OSError):  # it has ended already
        end.shutdown(socket.SHUT_RDWR)
