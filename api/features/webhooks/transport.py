"""One webhook call: to the checked address, without redirects, reading only the status."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from api.features.webhooks.targets import Target

TIMEOUT = 5.0  # seconds for connecting, and for each read
TOTAL = 10.0  # seconds for a whole call


class _Plain(http.client.HTTPConnection):
    """HTTP to ``target.address``; the host name is only in ``Host``."""

    def __init__(self, target: Target) -> None:
        super().__init__(target.host, target.port, timeout=TIMEOUT)
        self._target = target

    def connect(self) -> None:
        """Dial the checked address; the name is not looked up again."""
        self.sock = socket.create_connection((self._target.address, self._target.port), TIMEOUT)

    def hang_up(self) -> None:
        """Abort the call from another thread: its reads and writes fail."""
        with suppress(OSError, AttributeError):  # it is not connected
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # a TLS shutdown would race with the reader


class _Secure(_Plain):
    """The same with TLS; the certificate must be the host's."""

    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        """Dial, then shake hands in the host's name."""
        super().connect()
        secure = ssl.create_default_context().wrap_socket(
            self.sock, server_hostname=self._target.host, do_handshake_on_connect=False
        )
        self.sock = secure  # before the handshake, so that hang_up() can abort it
        secure.do_handshake()


def send(target: Target, body: bytes, headers: Mapping[str, str]) -> int:
    """POST ``body``; the status of the answer.

    Raises:
        OSError: no connection, no TLS, or no answer in time.
        http.client.HTTPException: the answer is not HTTP.
    """
    connection = (_Secure if target.secure else _Plain)(target)
    try:
        with _in_time(connection):
            connection.request("POST", target.path, body, {"Content-Type": "application/json", **headers})
            return connection.getresponse().status
    finally:
        connection.close()


@contextmanager
def _in_time(connection: _Plain) -> Iterator[None]:
    """Abort after ``TOTAL`` seconds, because a byte now and then resets ``TIMEOUT``."""
    late = threading.Event()

    def end() -> None:
        late.set()
        connection.hang_up()

    timer = threading.Timer(TOTAL, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError(f"no whole answer within {TOTAL:g} s") from None
        raise
    finally:
        timer.cancel()
