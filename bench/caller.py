"""A keep-alive HTTP caller for many threads, each with a connection of its own."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


class Caller:
    """Speaks to one server."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port)
        self._timeout = timeout
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of one answer."""
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                return self._exchange(kept, method, path, body, headers)
            except (ConnectionError, http.client.RemoteDisconnected):
                pass  # a server may close an idle connection at any time: ask again on a new one
        return self._exchange(self._connect(), method, path, body, headers)

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout)
        self._local.connection = connection
        self._opened.append(connection)
        return connection

    def close(self) -> None:
        """Close the connections of all threads; none may ask any more."""
        for connection in self._opened:
            connection.close()

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> tuple[int, bytes]:  # fmt: skip
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._local.connection = None
            connection.close()
            raise

    def json(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """The parsed answer.

        Raises:
            RuntimeError: the status is not 200 or 202.
        """
        status, answer = self.ask(method, path, body, headers)
        if status not in (200, 202):
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer)


def raw(photo: bytes) -> tuple[bytes, str]:
    """A photo as a request body of its own, and its content type."""
    return photo, "image/jpeg"


def multipart(photo: bytes, *, field: str = "image", copies: int = 1, **fields: str) -> tuple[bytes, str]:
    """A form with ``copies`` files of one name and some text fields, and its content type."""
    boundary = "inferlane-bench"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for number in range(copies):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{number}.jpg"\r\n'
        parts.append(head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + photo + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def base64_json(photo: bytes, *, field: str = "image_data") -> tuple[bytes, str]:
    """A photo as base64 inside JSON, and its content type."""
    return json.dumps({field: base64.b64encode(photo).decode()}).encode(), "application/json"
