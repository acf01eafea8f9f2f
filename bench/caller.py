"""A keep-alive HTTP caller for many threads, one connection each."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from bench.wire import Wire


class Caller:
    """Speaks to one server."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._timeout = timeout
        self._local = threading.local()
        self._opened: list[Wire] = []

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of one answer."""
        kept: Wire | None = getattr(self._local, "wire", None)
        if kept is not None and kept.open:
            try:
                return _exchange(kept, method, path, body, headers)
            except ConnectionError:
                pass  # a server may close an idle connection at any time: ask again on a new one
        return _exchange(self._connect(), method, path, body, headers)

    def _connect(self) -> Wire:
        wire = self._local.wire = Wire(*self._address, self._timeout)
        self._opened.append(wire)
        return wire

    def close(self) -> None:
        """Close the connections of all threads; none may ask any more."""
        for wire in self._opened:
            wire.close()

    def json(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """The parsed answer.

        Raises:
            RuntimeError: the status is not 200 or 202.
        """
        status, answer = self.ask(method, path, body, headers)
        if status not in (200, 202):
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer)


def _exchange(
    wire: Wire, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
) -> tuple[int, bytes]:
    try:
        return wire.exchange(method, path, body or b"", headers or {})
    except (OSError, HTTPException, ValueError):
        wire.close()
        raise


def raw(photo: bytes) -> tuple[bytes, str]:
    """A photo as a raw request body, and its content type."""
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
