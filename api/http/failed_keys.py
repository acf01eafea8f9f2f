"""Limits how many wrong API keys may come from an address, so that nobody finds one by trying.

In each API process an address may send ``MOST`` wrong keys in any ``WINDOW`` seconds; beyond that, keys from there are
not even compared. A key that was good from an address stays so: callers that share their address with an attacker (a
proxy, the dashboard) are not locked out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from api.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.http.api_keys import Caller, KnownKeys

MOST, WINDOW = 30, 60.0
STEP = WINDOW / MOST  # seconds after which one more may be tried
KEPT = 10_000  # addresses, and good keys


class FailedKeyLimiter:
    """The wrong keys of the last minute; threads may share it."""

    def __init__(self, keys: KnownKeys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._lock = threading.Lock()
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when an address has all its tries again
        self._good: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def caller(self, key: str, address: str) -> Caller | None:
        """Whose key this is; None when it is nobody's.

        Raises:
            Problem: ``rate_limited``, too many wrong ones came from ``address``.
        """
        source, digest = _source(address), hashlib.sha256(key.encode()).digest()
        with self._lock:
            free = (source, digest) in self._good
            if not free:
                self._take(source)
        caller = self._keys.caller(key)
        if caller is not None and not free:
            with self._lock:
                self._full_at[source] = self._full_at.get(source, 0.0) - STEP
                _keep(self._good, (source, digest), None)
        return caller

    def _take(self, source: str) -> None:
        """Count one as wrong before it is compared, so that many at once get no further than one after the other."""
        now = self._clock()
        full_at = max(self._full_at.get(source, now), now) + STEP
        if full_at - now > WINDOW:
            raise Problem("rate_limited", "Too many wrong API keys.", retry_after=full_at - now - WINDOW)
        _keep(self._full_at, source, full_at)


def _source(address: str) -> str:
    """Whom an address stands for: itself, or the network of a host that has a whole one (IPv6)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address


def _keep(kept: OrderedDict[Any, Any], name: object, value: object) -> None:
    """Set it; what was set longest ago makes room."""
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > KEPT:
        kept.popitem(last=False)
