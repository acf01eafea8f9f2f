"""The webhooks that are still to be sent, in Redis: by request id or batch, with the time at which each is due.

An entry is made before its request is accepted and goes away when the call has been made, so a process that dies in
between costs a repetition and never a webhook. The end of a request rings the bell; without the bell its entry comes up
by itself, later. Who takes an entry has it alone: neither the bell nor a replay of its request makes it due before the
call has been made or the taker has died. All times are by Redis' clock.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.protocol.connections import blocking, prompt, translated

if TYPE_CHECKING:
    from common.settings import Settings

LUA = Path(__file__).parent / "lua"
#: Seconds after which an entry comes up without the bell.
SWEEP = 30.0
#: Seconds for which a webhook is taken: longer than one call can last, the resolver's time included.
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
        self._taken = f"{self._due}:taken"
        self._attempts = f"{self._due}:attempts"
        self.bell = f"{self._due}:bell"
        self._kept = max(settings.result_ttl, settings.failure_ttl)
        self._take = self._redis.register_script((LUA / "claim_due.lua").read_text())
        self._put_off = self._redis.register_script((LUA / "put_off.lua").read_text())

    def expect(self, entry: str) -> None:
        """There will be a webhook for this request or batch; one that is due sooner stays so."""
        with translated():
            self._put_off(keys=[self._due], args=[entry, SWEEP])

    def later(self, entry: str, seconds: float) -> None:
        """Give back what was taken, to be looked at again in so many seconds."""
        with translated():
            self._put_off(keys=[self._due, self._taken], args=[entry, seconds])

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
        """An entry that is due; nobody else gets it until it is given back or done, or for a minute."""
        with translated():
            found = self._take(keys=[self._due, self._taken], args=[TAKEN])
        return found.decode() if isinstance(found, bytes) else None

    def failed(self, entry: str) -> int:
        """How often sending it has failed, this time included."""
        with translated():
            return int(self._redis.hincrby(self._attempts, entry, 1))

    def told(self, entry: str) -> str | None:
        """The end of which its receiver has been told, as :meth:`done` was given it."""
        with translated():
            found = self._redis.get(self._told(entry))
        return found.decode() if isinstance(found, bytes) else None

    def done(self, entry: str, end: str | None = None) -> None:
        """Forget it, but for the ``end`` of which its receiver has been told: a replay promises it anew."""
        with translated(), self._redis.pipeline() as pipe:
            pipe.zrem(self._taken, entry)
            pipe.hdel(self._attempts, entry)
            if end is not None:
                pipe.set(self._told(entry), end, ex=self._kept)
            pipe.execute()

    def _told(self, entry: str) -> str:
        return f"{self._due}:told:{entry}"
