"""The webhooks that are still to be sent, in Redis: by request id or batch, with the time at which each is due.

An entry is made before its request is accepted and goes away when the call has been made, so a process that dies in
between costs a repetition and never a webhook. The end of a request rings the bell; without the bell its entry comes up
by itself, later.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.connections import blocking, prompt, translated

if TYPE_CHECKING:
    from settings import Settings

LUA = Path(__file__).parent.parent / "lua"
#: Seconds after which an entry comes up without the bell.
SWEEP = 30.0
#: Seconds for which a webhook is taken: longer than one call can last.
TAKEN = 60.0
LISTEN = 1.0
#: What an entry for a batch begins with; no request id has a colon.
BATCH = "batch:"


def batch_entry(batch_id: str) -> str:
    """The entry of the webhook about a whole batch."""
    return f"{BATCH}{batch_id}"


class Outbox:
    """Webhooks to be sent. Every method raises :class:`tasks.errors.Unavailable` when Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._listener = blocking(settings.redis_url, LISTEN)
        self._due = f"{settings.key_prefix}api:webhooks"
        self._attempts = f"{settings.key_prefix}api:webhooks:attempts"
        self.bell = f"{settings.key_prefix}api:webhooks:bell"
        self._take = self._redis.register_script((LUA / "claim_due.lua").read_text())

    def expect(self, request_id: str) -> None:
        """There will be a webhook for this request."""
        self.later(request_id, SWEEP)

    def later(self, request_id: str, seconds: float) -> None:
        """Look at it again in so many seconds."""
        with translated():
            self._redis.zadd(self._due, {request_id: time.time() + seconds})

    def listen(self) -> None:
        """Wait up to a second for the bell; what rang, and its batch, is due at once if it is in here."""
        with translated():
            rung = self._listener.blpop([self.bell], timeout=LISTEN)
            if rung is not None:
                entry = rung[1].decode()
                whole = batch_entry(entry.rpartition(".")[0])
                self._redis.zadd(self._due, {entry: 0, whole: 0}, xx=True)

    def ring(self, entry: str) -> None:
        """Have it looked at now."""
        with translated():
            self._redis.rpush(self.bell, entry)

    def take(self) -> str | None:
        """A request whose webhook is due; for a minute nobody else gets it."""
        with translated():
            found = self._take(keys=[self._due], args=[TAKEN])
        return found.decode() if isinstance(found, bytes) else None

    def failed(self, request_id: str) -> int:
        """How often sending it has failed, this time included."""
        with translated():
            return int(self._redis.hincrby(self._attempts, request_id, 1))

    def done(self, request_id: str) -> None:
        """Forget it."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self._due, request_id)
            pipe.hdel(self._attempts, request_id)
            pipe.execute()
