"""Limits wrong API keys per address, against guessing.

In each API process an address may send ``MOST`` wrong keys in any ``WINDOW`` seconds; further keys from there are not
compared. A key that was valid from an address stays valid, and so do random ones that the process knows, which nobody
guesses: callers that share an address (behind a proxy, the dashboard) with an attacker, or with one whose key was
revoked, are not locked out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from api.http.api_keys import ApiKey
from api.http.problems import HttpProblem
from tasks.errors import TaskError

MOST, WINDOW = 30, 60.0
STEP = WINDOW / MOST  # seconds until one more try
KEPT = 10_000  # addresses, and valid keys


class FailedKeyLimiter:
    """The wrong keys of the last minute; threads may share it."""

    def __init__(
        self, lookup: Callable[[str], ApiKey | None], clock: Callable[[], float] = time.monotonic,
        random: Callable[[str], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        self._lookup, self._clock, self._random = lookup, clock, random
        self._lock = threading.Lock()
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when an address has all its tries back
        self._good: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def caller(self, key: str, address: str) -> ApiKey | None:
        """The key, if it is valid.

        Raises:
            HttpProblem: ``rate_limited``, too many wrong ones came from ``address``.
            BrokerUnavailable: it cannot be checked.
        """
        source, digest = _source(address), hashlib.sha256(key.encode()).digest()
        with self._lock:
            free = (source, digest) in self._good or self._random(key)
            if not free:
                self._take(source)
        try:
            caller = self._lookup(key)
        except TaskError:
            if not free:
                self._give_back(source)
            raise
        if caller is None and free:  # it was revoked
            with self._lock:
                self._good.pop((source, digest), None)
        elif caller is not None and not free:
            self._give_back(source)
            with self._lock:
                _keep(self._good, (source, digest), None)
        return caller

    def _give_back(self, source: str) -> None:
        with self._lock:
            self._full_at[source] = self._full_at.get(source, 0.0) - STEP

    def _take(self, source: str) -> None:
        """Count a try before the comparison, so that concurrent tries do not exceed the limit."""
        now = self._clock()
        full_at = max(self._full_at.get(source, now), now) + STEP
        if full_at - now > WINDOW:
            left = full_at - now - WINDOW
            raise HttpProblem("rate_limited", "Too many wrong API keys.", retry_after=left).standing(left)
        _keep(self._full_at, source, full_at)


def _source(address: str) -> str:
    """The limited unit: an IPv4 address, or an IPv6 host's network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address


def _keep(kept: OrderedDict[Any, Any], name: object, value: object) -> None:
    """Set an entry and evict the oldest."""
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > KEPT:
        kept.popitem(last=False)
