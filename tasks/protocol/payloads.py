"""Images outside Redis, where ``PAYLOAD_STORE`` says so: in a folder, or in a filesystem of fsspec.

An image is stored before its request is accepted. Its *reference*, ``folder/name-size``, is in the record until it
may be deleted, and in the sorted set ``payloads`` until it is. The score says when: never (infinity) while the request
is open, at once (0) when it has ended, with its record for a dead letter. The scripts that accept and end a
request write the set in the same step; :meth:`Payloads.delete_due` deletes. An image that is stored and not in the set
was never accepted: :meth:`Payloads.sweep`.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice

from redis.exceptions import ResponseError

from common.settings import Settings
from tasks.errors import BrokerUnavailable, Full
from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys
from tasks.protocol.stores import NoFolder, Store, open_store
from worker_models.errors import InvalidInput, ModelError

#: Seconds after which an image without a request is an orphan; its request is accepted within seconds.
ORPHAN_AGE = 300.0
#: Seconds between two looks at an orphan: a suspended producer may accept it right after the first.
SECOND_LOOK = 5.0
#: Seconds between two probes of a store: a status page asks every second, and calls of a bucket cost money.
PROBE_AGE = 5.0
#: References read or deleted at a time.
PAGE = 500

log = logging.getLogger(__name__)

store_at = cache(open_store)
"""One store per process and ``PAYLOAD_STORE``."""
# The API checks the setting before it forks, and what fsspec has opened refuses to work in another process.
os.register_at_fork(after_in_child=store_at.cache_clear)


class PayloadLost(InvalidInput):
    """The stored image is gone or incomplete: no attempt can succeed."""

    code = "image_lost"


class PayloadUnreadable(ModelError):
    """This process cannot read the image now; it may be there."""

    code = "image_unreadable"


class Payloads:
    """The images of one Inferlane that are outside Redis; thread-safe."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._keys = Keys(settings.key_prefix)
        self._url = settings.payload_store
        self._system = ""
        self._refusal, self._probed = "", -PROBE_AGE

    @property
    def _store(self) -> Store | None:
        return store_at(self._url)

    @property
    def outside(self) -> bool:
        """Whether new images are stored outside Redis."""
        return self._store is not None

    def put(self, image: bytes) -> str:
        """Store an image; its reference, empty where images stay in Redis.

        Raises:
            Full: the store has no room.
            BrokerUnavailable: it takes no image now.
        """
        if (store := self._store) is None:
            return ""
        system = self._system or self._begin(store)
        with _refused():
            return store.put(system, image)

    def get(self, reference: str) -> bytes:
        """An image.

        Raises:
            PayloadLost: it is gone.
            PayloadUnreadable: it cannot be read here.
        """
        if (store := self._store) is None:
            raise PayloadUnreadable(f"the image is outside Redis, and PAYLOAD_STORE is redis here; {ALIKE}")
        try:
            image = store.get(reference)
        except NoFolder as error:
            raise PayloadUnreadable(f"{error} in the PAYLOAD_STORE here; {ALIKE}") from error
        except FileNotFoundError:
            raise PayloadLost("the stored image is gone") from None
        except Exception as error:
            raise PayloadUnreadable(f"the image cannot be read: {type(error).__name__}: {error}") from error
        if len(image) != int(reference.rpartition("-")[2]):
            raise PayloadLost("the stored image is incomplete")
        return image

    def delete(self, references: Sequence[str]) -> None:
        """Delete images without a request; those that cannot be deleted now are left to :meth:`sweep`."""
        if references and (store := self._store) is not None:
            with suppress(Exception):  # a filesystem of fsspec may raise anything
                store.delete(references)

    def refusal(self) -> str:
        """Why the store takes no image; empty when it does. Probed once in :data:`PROBE_AGE` seconds."""
        if time.monotonic() - self._probed > PROBE_AGE:
            self._refusal = ""
            try:
                self.delete([*filter(None, [self.put(b"")])])
            except BrokerUnavailable as error:
                self._refusal = str(error)
            self._probed = time.monotonic()
        return self._refusal

    def delete_due(self) -> int:
        """Delete the images of requests that have ended; how many."""
        deleted, store = 0, self._store
        while store is not None:
            now = self._client.time()[0]
            due = [name.decode() for name in self._client.zrangebyscore(self._keys.payloads, 0, now, 0, PAGE)]
            if due:
                store.delete(due)
                self._client.zrem(self._keys.payloads, *due)
            deleted += len(due)
            if len(due) < PAGE:
                break
        return deleted

    def sweep(self) -> int:
        """Delete the images that were stored :data:`ORPHAN_AGE` ago for a request that was never accepted; how many."""
        system = self._client.get(self._keys.payload_system)
        if (store := self._store) is None or system is None:
            return 0
        deleted, old = 0, store.older(system.decode(), ORPHAN_AGE)
        while page := list(islice(old, PAGE)):
            if orphans := self._unknown(page):
                time.sleep(SECOND_LOOK)
                orphans = self._unknown(orphans)
                store.delete(orphans)
                deleted += len(orphans)
        return deleted

    def _unknown(self, references: Sequence[str]) -> list[str]:
        if not references:
            return []
        scores = self._client.zmscore(self._keys.payloads, references)
        return [name for name, score in zip(references, scores, strict=True) if score is None]

    def _begin(self, store: Store) -> str:
        """Read, once, the name of this system's folders in the store, and when an image has to reach the disk."""
        key = self._keys.payload_system
        with translated():
            self._client.set(key, os.urandom(8).hex(), nx=True)
            system = str(self._client.get(key).decode())
            store.sync = self._appendfsync()
        self._system = system
        return system

    def _appendfsync(self) -> str:
        """When Redis' own file reaches the disk; the default where a hosted Redis does not say."""
        try:
            found = self._client.config_get("append*")
        except ResponseError:
            return "everysec"
        told = {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}
        return "no" if told.get("appendonly") == "no" else str(told.get("appendfsync", "everysec"))


ALIKE = "give the API and all workers the same PAYLOAD_STORE, and a folder that they share"


@contextmanager
def _refused() -> Iterator[None]:
    """Turn a store's errors into those of an acceptance that stored nothing; callers see no path."""
    try:
        yield
    except Exception as error:
        log.warning("no image is stored: %s: %s", type(error).__name__, error)
        why = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full(f"the payload store (PAYLOAD_STORE) is full: {why}") from error
        raise BrokerUnavailable(f"the payload store (PAYLOAD_STORE) takes no image: {why}") from error
