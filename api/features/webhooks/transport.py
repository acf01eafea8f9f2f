"""One webhook call: signed as Standard Webhooks 1.0, to the checked address, without redirects."""

import base64
import binascii
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from standardwebhooks import Webhook

from api.features.webhooks.targets import Target
from common.settings import SettingsError

TIMEOUT = 5.0  # seconds for connecting, and for each read
TOTAL = 10.0  # seconds for a whole call; a byte now and then resets TIMEOUT
PREFIX = "whsec_"


def signer(secret: str) -> Webhook:
    """The signer for a secret of ``whsec_`` plus base64.

    Raises:
        SettingsError: the secret is malformed or has fewer than 24 bytes; the message does not repeat it.
    """
    try:
        size = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except binascii.Error:
        size = 0
    if not secret.startswith(PREFIX) or not 24 <= size <= 64:
        raise SettingsError("WEBHOOK_SECRET: must be whsec_ and the base64 of 24 to 64 random bytes")
    return Webhook(secret)


def signature(key: Webhook, message_id: str, at: int, body: str) -> dict[str, str]:
    """The headers of a call: ``at`` is epoch seconds; ``message_id`` stays the same when a call is repeated."""
    signed = key.sign(message_id, datetime.fromtimestamp(at, UTC), body)
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signed}


class _Connection(http.client.HTTPConnection):
    """HTTP to ``target.address``; the host's name is only in ``Host`` and, with TLS, in its certificate."""

    def __init__(self, target: Target) -> None:
        self.default_port = http.client.HTTPS_PORT if target.secure else http.client.HTTP_PORT
        super().__init__(target.host, target.port, timeout=TIMEOUT)
        self._target = target
        self.late = False

    def connect(self) -> None:
        """Dial the checked address, the name is not looked up again; with TLS, shake hands in the host's name."""
        self.sock = socket.create_connection((self._target.address, self._target.port), TIMEOUT)
        if self._target.secure:
            secure = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self._target.host, do_handshake_on_connect=False
            )
            self.sock = secure  # before the handshake, so that hang_up() can abort it
            secure.do_handshake()

    def hang_up(self) -> None:
        """Abort the call from another thread: its reads and writes fail."""
        self.late = True
        with suppress(OSError, AttributeError):  # it is not connected
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # a TLS shutdown would race with the reader


def send(target: Target, body: bytes, headers: Mapping[str, str]) -> int:
    """POST ``body``; the status of the answer.

    Raises:
        OSError: no connection, no TLS, or no answer in time.
        http.client.HTTPException: the answer is not HTTP.
    """
    connection = _Connection(target)
    timer = threading.Timer(TOTAL, connection.hang_up)
    timer.daemon = True
    timer.start()
    try:
        connection.request("POST", target.path, body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        if connection.late:
            raise TimeoutError(f"no whole answer within {TOTAL:g} s") from None
        raise
    finally:
        timer.cancel()
        connection.close()
