"""Dead letters: requests that were given up, kept with their image for a person to inspect, requeue or delete."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

from common.settings import Settings
from tasks.errors import PurgedRequest, UnknownRequest
from tasks.protocol import connections, envelope, scripts
from tasks.protocol.connections import translated
from tasks.protocol.owners import owner_of, public_id
from tasks.protocol.records import Records
from tasks.protocol.requests import Request

#: Ids of the list that one call reads at a time.
PAGE = 500


class DeadLetters:
    """The list of dead letters. Methods that take an id raise UnknownRequest if it is not on the list."""

    def __init__(self, settings: Settings) -> None:
        self._client = connections.prompt(settings.redis_url)
        self._records = Records(self._client, settings)
        self._keys = self._records.keys

    def list(self, limit: int = 100, owner: str | None = None) -> list[Request]:
        """The newest first, by default of all owners; those whose record has expired leave the list here."""
        ids = list(islice(self._ids(owner), limit))
        requests = self._records.briefs(ids)
        gone = set(ids) - {request.id for request in requests}
        if gone:
            with translated():
                self._client.zrem(self._keys.dead_letters, *gone)
        return requests

    def _ids(self, owner: str | None) -> Iterator[str]:
        for start in count(0, PAGE):
            with translated():
                page = self._client.zrevrange(self._keys.dead_letters, start, start + PAGE - 1)
            yield from (name for name in map(bytes.decode, page) if owner in (None, owner_of(name)))
            if len(page) < PAGE:
                return

    def get(self, request_id: str) -> Request:
        """One dead letter; its ``timeline`` has the crashes: worker, time and cause."""
        with translated():
            if self._client.zscore(self._keys.dead_letters, request_id) is None:
                raise _unknown(request_id)
        return self._records.get(request_id)

    def requeue(self, request_id: str) -> Request:
        """Run it again from the start, its crashes forgotten; raises PurgedRequest if its image has expired."""
        request = self.get(request_id)
        args = [self._keys.prefix, request_id, envelope.seal(request.lane, [request_id])]
        with translated():
            done = scripts.run(self._client, "requeue", self._keys.lane_and_bell(request.lane), args)
        if done == -1:
            raise PurgedRequest(f"the image of {public_id(request_id)} has expired, it cannot run again")
        if done == 0:
            raise _unknown(request_id)
        return self._records.get(request_id)

    def delete(self, request_id: str) -> None:
        """Take it off the list; its record stays failed until it expires."""
        with translated():
            if not scripts.run(self._client, "discard", (), [self._keys.prefix, request_id]):
                raise _unknown(request_id)


def _unknown(request_id: str) -> UnknownRequest:
    return UnknownRequest(f"{public_id(request_id)} is no dead letter")
