"""The document that every open page polls; the API is asked once per interval, however many pages there are.

Keys have separate caches, since the API may show them different things. While one thread waits for a slow API, the
others answer from the cache.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from dashboard.api_client import ApiClient, ApiError
from dashboard.live import LiveMinute
from dashboard.sessions import MOST
from dashboard.status import outage
from dashboard.view import view

#: Seconds for which a snapshot is served from the cache.
FRESH = 0.4
#: API keys with cached snapshots: those of all sessions, and no key.
KEYS = MOST + 1


class ViewCache:
    """The latest snapshot for one API key.

    Args:
        api: called with that key.
        late_after: seconds after which a worker's heartbeat is late.
        clock: monotonic seconds.
    """

    def __init__(self, api: ApiClient, late_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._late_after, self._clock = api, late_after, clock
        self._live = LiveMinute()
        self._fetching = threading.Lock()
        self._fetched_at = self._good_at = float("-inf")
        self._good: dict[str, Any] | None = None
        self._failure: tuple[str, str] | None = None

    def document(self) -> dict[str, Any]:
        """State, status sentence, and the last good view with its age in seconds."""
        if not self._is_fresh() and self._fetching.acquire(blocking=self._good is None):
            try:
                if not self._is_fresh():  # another thread may have fetched while this one waited
                    self._fetch()
            finally:
                self._fetching.release()
        good, failure = self._good, self._failure
        verdict = outage(*failure) if failure else good and good["verdict"]
        age = None if good is None else round(self._clock() - self._good_at, 3)
        return {"state": failure[0] if failure else "ok", "verdict": verdict, "age": age, "view": good}

    def _is_fresh(self) -> bool:
        return self._clock() - self._fetched_at < FRESH

    def _fetch(self) -> None:
        try:
            snapshot = self._api.get("/ops/snapshot")
            self._good = {**view(snapshot, late_after=self._late_after), "live": self._live.add(snapshot)}
            self._good_at, self._failure = self._clock(), None
        except ApiError as error:
            self._failure = error.state, str(error)
            if error.state == "login":  # the key has ended
                self._good = None
        self._fetched_at = self._clock()


def view_caches(api: ApiClient, late_after: float) -> Callable[[str], ViewCache]:
    """Gives the cache of an API key; the least recently used one makes room."""
    return lru_cache(KEYS)(lambda key: ViewCache(api.with_key(key), late_after))
