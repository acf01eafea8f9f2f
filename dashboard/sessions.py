"""Logins: the API key stays on the server, the browser holds a random token in a cookie that scripts cannot read."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict

COOKIE = "inferlane_session"
LIFETIME = 12 * 3600.0
MOST = 100


class Sessions:
    """Tokens and the API keys behind them, in the memory of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def open(self, key: str) -> str:
        """A new token for ``key``; the oldest session makes room."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._keys[token] = (key, time.monotonic() + LIFETIME)
            if len(self._keys) > MOST:
                self._keys.popitem(last=False)
        return token

    def key(self, token: str | None) -> str:
        """The key behind a token; empty when there is none or it has expired."""
        with self._lock:
            key, expires = self._keys.get(token or "", ("", 0.0))
        return key if time.monotonic() < expires else ""

    def close(self, token: str | None) -> None:
        """Forget a token."""
        with self._lock:
            self._keys.pop(token or "", None)
