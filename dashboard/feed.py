"""The one thing every open page asks for each second. However many pages there are, the API is asked once.

Pages with different API keys get different feeds, since the API may show them different things. A slow API never piles
up threads: while one asks, the others take what is there.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from dashboard.upstream import Upstream, UpstreamError
from dashboard.verdict import trouble
from dashboard.view import view

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds for which one answer serves everybody.
FRESH = 0.4
#: Feeds of that many keys are kept.
KEYS = 16
PATH = "/ops/snapshot"


class Feed:
    """The latest view for one API key.

    Args:
        upstream: the API.
        key: presented to it.
        late_after: seconds after which a worker's heartbeat is late.
        clock: monotonic seconds.
    """

    def __init__(
        self, upstream: Upstream, key: str, late_after: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._upstream, self._key, self._late_after, self._clock = upstream, key, late_after, clock
        self._asking = threading.Lock()
        self._asked_at = self._good_at = float("-inf")
        self._good: dict[str, Any] | None = None
        self._state, self._detail = "ok", ""

    def document(self) -> dict[str, Any]:
        """State, verdict and the last good view with its age in seconds."""
        if self._clock() - self._asked_at >= FRESH and self._asking.acquire(blocking=self._good is None):
            try:
                self._ask()
            finally:
                self._asking.release()
        shown = None if self._good is None else self._good["verdict"]
        if self._state != "ok":
            shown = trouble(self._state, self._detail).document()
        age = None if self._good is None else round(self._clock() - self._good_at, 3)
        return {"state": self._state, "detail": self._detail, "verdict": shown, "age": age, "view": self._good}

    def _ask(self) -> None:
        if self._clock() - self._asked_at < FRESH:
            return  # another thread asked while this one waited
        try:
            body = self._upstream.call("GET", PATH, key=self._key).body
        except UpstreamError as error:
            self._state, self._detail = error.state, str(error)
        else:
            self._good, self._good_at = view(body, late_after=self._late_after), self._clock()
            self._state, self._detail = "ok", ""
        self._asked_at = self._clock()


class Feeds:
    """A feed per API key; the one unused for longest makes room."""

    def __init__(self, upstream: Upstream, late_after: float) -> None:
        self._upstream, self._late_after = upstream, late_after
        self._lock = threading.Lock()
        self._feeds: OrderedDict[str, Feed] = OrderedDict()

    def of(self, key: str) -> Feed:
        """The feed for this key."""
        with self._lock:
            feed = self._feeds.get(key) or Feed(self._upstream, key, self._late_after)
            self._feeds[key] = feed
            self._feeds.move_to_end(key)
            while len(self._feeds) > KEYS:
                self._feeds.popitem(last=False)
            return feed
