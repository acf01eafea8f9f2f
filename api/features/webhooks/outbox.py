"""Outbox in Redis: pending webhooks by request id or batch, each with its due time.

An entry is added before its request is accepted and removed after the call, so a process that dies in between costs a
repeated call and never a webhook. The end of a request rings the bell; without it the entry becomes due later by
itself. A taken entry is exclusive: neither the bell nor a replay of its request makes it due before the call has been
made or the taker has died. Times are by Redis' clock.
"""

from pathlib import Path

from common.settings import Settings
from tasks.protocol.connections import blocking, prompt, translated

LUA = Path(__file__).parent / "lua"
#: Seconds after which an entry becomes due without the bell.
SWEEP = 30.0
#: Seconds for which an entry stays taken: longer than a call can last, DNS included.
TAKEN = 60.0
LISTEN = 1.0
#: Prefix of entries for batches; no request id has a colon.
BATCH = "batch:"


def batch_entry(batch_id: str) -> str:
    """The entry of a batch."""
    return f"{BATCH}{batch_id}"


class Outbox:
    """Pending webhooks. Every method raises :class:`tasks.errors.BrokerUnavailable` when Redis does not answer."""

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
        """Add an entry for this request or batch; an earlier due time stays."""
        with translated():
            self._put_off(keys=[self._due], args=[entry, SWEEP])

    def later(self, entry: str, seconds: float) -> None:
        """Return a taken entry, due again in so many seconds."""
        with translated():
            self._put_off(keys=[self._due, self._taken], args=[entry, seconds])

    def listen(self) -> None:
        """Wait up to a second for the bell; the entry it names, and its batch's, become due."""
        with translated():
            rung = self._listener.blpop([self.bell], timeout=LISTEN)
            if rung is not None:
                entry = rung[1].decode()
                whole = batch_entry(entry.rpartition(".")[0])
                self._redis.zadd(self._due, {entry: 0, whole: 0}, xx=True)

    def ring(self, entry: str) -> None:
        """Make it due now."""
        with translated():
            self._redis.rpush(self.bell, entry)

    def take(self) -> str | None:
        """Take a due entry, exclusively until it is returned or done, or for a minute."""
        with translated():
            found = self._take(keys=[self._due, self._taken], args=[TAKEN])
        return found.decode() if isinstance(found, bytes) else None

    def failed(self, entry: str) -> int:
        """Count a failed attempt; the number of them."""
        with translated():
            return int(self._redis.hincrby(self._attempts, entry, 1))

    def told(self, entry: str) -> str | None:
        """The end that its receiver was notified of, as given to :meth:`done`."""
        with translated():
            found = self._redis.get(self._told(entry))
        return found.decode() if isinstance(found, bytes) else None

    def done(self, entry: str, end: str | None = None) -> None:
        """Remove it, and remember the ``end`` that was sent: a replay adds it again."""
        with translated(), self._redis.pipeline() as pipe:
            pipe.zrem(self._taken, entry)
            pipe.hdel(self._attempts, entry)
            if end is not None:
                pipe.set(self._told(entry), end, ex=self._kept)
            pipe.execute()

    def _told(self, entry: str) -> str:
        return f"{self._due}:told:{entry}"
