"""One webhook call: to the address that was checked, no redirects, nothing of the answer but its status."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.webhooks.targets import Target

TIMEOUT = 5.0  # seconds for connecting, and for each read


class _Plain(http.client.HTTPConnection):
    """HTTP to ``target.address``; the host's name is only said in ``Host``."""

    def __init__(self, target: Target) -> None:
        super().__init__(target.host, target.port, timeout=TIMEOUT)
        self._target = target

    def connect(self) -> None:
        """Dial the checked address; the name is not looked up again."""
        self.sock = socket.create_connection((self._target.address, self._target.port), TIMEOUT)


class _Secure(_Plain):
    """The same with TLS; the certificate must be the host's."""

    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        """Dial, then shake hands in the host's name."""
        super().connect()
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self._target.host)


def send(target: Target, body: bytes, headers: Mapping[str, str]) -> int:
    """POST ``body``; the status of the answer.

    Raises:
        OSError: no connection, no TLS, or no answer in time.
        http.client.HTTPException: the answer is no HTTP.
    """
    connection = (_Secure if target.secure else _Plain)(target)
    try:
        connection.request("POST", target.path, body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    finally:
        connection.close()
