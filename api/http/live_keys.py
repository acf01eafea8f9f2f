"""Keys made at run time: they are in Redis, and each API process has a copy of them in memory.

A thread compares the copy's version twice a second, so a known key costs no round trip, and a revoked one ends within
a second in every process. A key that the copy lacks is looked for at once: a new one is valid as soon as it is shown.
While Redis does not answer, the copy goes on, and whether another key is valid cannot be said.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any

from api.http.api_keys import ApiKey, KnownKeys, digest_of, id_of, random_key
from common.settings import Settings
from tasks.errors import BrokerUnavailable, TaskError
from tasks.protocol.connections import prompt, translated

log = logging.getLogger(__name__)

#: Seconds between two comparisons of the version, and between two writes of the last uses.
PERIOD, USES_PERIOD = 0.4, 2.0


class RunTimeKeys:
    """The keys in Redis: a hash of descriptions, one of last uses, and a version that each change renews."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._keys = f"{settings.key_prefix}api:keys"
        self._version = f"{self._keys}:version"
        self._uses = f"{self._keys}:used"

    def version(self) -> bytes | None:
        """The version of the keys; None before the first."""
        with translated():
            version: bytes | None = self._redis.get(self._version)
            return version

    def read(self) -> tuple[bytes | None, list[ApiKey]]:
        """The keys, and their version."""
        with translated(), self._redis.pipeline() as pipe:
            version, texts = pipe.get(self._version).hvals(self._keys).execute()
        return version, [_described(text) for text in texts]

    def create(self, name: str, role: str, by: str) -> tuple[str, ApiKey]:
        """A new key of ``name``, and its stored form."""
        key = random_key()
        digest = digest_of(key)
        made = ApiKey(id_of(digest), name, role, digest, time.time(), by)

        def change(pipe: Any) -> None:
            pipe.multi()
            pipe.hset(self._keys, made.id, json.dumps(asdict(made)))

        self._change(change)
        return key, made

    def set_role(self, key_id: str, role: str) -> ApiKey | None:
        """The key with its new role; None if there is none of this id."""
        found: list[ApiKey] = []

        def change(pipe: Any) -> None:
            found[:] = [replace(_described(text), role=role) for text in pipe.hmget(self._keys, key_id) if text]
            pipe.multi()
            for key in found:
                pipe.hset(self._keys, key_id, json.dumps(asdict(key)))

        self._change(change)
        return next(iter(found), None)

    def revoke(self, key_id: str) -> ApiKey | None:
        """End a key and return it; None if there is none of this id."""
        found: list[ApiKey] = []

        def change(pipe: Any) -> None:
            found[:] = [_described(text) for text in pipe.hmget(self._keys, key_id) if text]
            pipe.multi()
            pipe.hdel(self._keys, key_id)
            pipe.hdel(self._uses, key_id)

        self._change(change)
        return next(iter(found), None)

    def note_uses(self, uses: dict[str, float]) -> None:
        """Write when keys were last used: id -> epoch seconds."""
        with translated():
            self._redis.hset(self._uses, mapping=uses)

    def uses(self) -> dict[str, float]:
        """Id -> epoch seconds of the last use."""
        with translated():
            return {key_id.decode(): float(at) for key_id, at in self._redis.hgetall(self._uses).items()}

    def _change(self, change: Callable[[Any], object]) -> None:
        """Change the keys in one step; ``change`` may read, then calls ``multi``, then writes."""

        def renewed(pipe: Any) -> None:
            change(pipe)
            pipe.set(self._version, secrets.token_hex(8))

        with translated():
            self._redis.transaction(renewed, self._keys)


def _described(text: bytes) -> ApiKey:
    kept = json.loads(text)  # a later release may keep more
    return ApiKey(**{member.name: kept[member.name] for member in fields(ApiKey)})


class LiveKeys(KnownKeys):
    """The valid keys of one API process: those of the settings, and its copy of those in Redis."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._store = RunTimeKeys(settings)
        self._lock = threading.Lock()
        self._version: bytes | str | None = "never read"
        self._outage = ""
        self._uses: dict[str, float] = {}
        self._stop = threading.Event()
        threading.Thread(target=self._follow, name="keys", daemon=True).start()

    def caller(self, key: str) -> ApiKey | None:
        """The key, if it is valid; raises BrokerUnavailable if it is unknown here and Redis does not answer."""
        found = self.remembered(key)
        if found is None:
            with self._lock:
                if self._outage:
                    raise BrokerUnavailable(self._outage)
                self._read()
            found = self.remembered(key)
        if found is not None:
            self._uses[found.id] = time.time()
        return found

    def close(self) -> None:
        """Follow no longer."""
        self._stop.set()

    def _read(self) -> None:
        """Copy the keys unless the copy is up to date."""
        try:
            if self._store.version() != self._version:
                version, keys = self._store.read()
                self.known = {key.digest: key for key in keys} | dict(self.fixed)
                self._version = version
        except BrokerUnavailable as error:
            self._outage = str(error)
            raise
        self._outage = ""

    def _follow(self) -> None:
        wrote = time.monotonic()
        while True:
            try:
                with self._lock:
                    self._read()
                if self._uses and time.monotonic() - wrote >= USES_PERIOD:
                    wrote = time.monotonic()
                    self._write_uses()
            except TaskError as error:
                log.debug("keys: %s", error)
            except Exception:  # this thread must survive: without it, revoked keys would go on
                log.exception("keys are not read")
            if self._stop.wait(PERIOD):
                return

    def _write_uses(self) -> None:
        uses, self._uses = self._uses, {}
        valid = {key.id for key in self.known.values()}
        if kept := {key_id: at for key_id, at in uses.items() if key_id in valid}:
            self._store.note_uses(kept)
