"""Requests given up on, kept with their image for a person to look at, run again or delete."""

from __future__ import annotations

from common.settings import Settings
from tasks.celery import app
from tasks.errors import PurgedRequest, UnknownRequest
from tasks.protocol import connections, envelope, scripts
from tasks.protocol.connections import translated
from tasks.protocol.keys import Keys
from tasks.protocol.records import Records
from tasks.protocol.requests import Request


class DeadLetters:
    """The list of poison and given-up requests."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings.key_prefix)
        self._client = connections.prompt(settings.redis_url)
        self._records = Records(self._client, settings)

    def list(self, limit: int = 100) -> list[Request]:
        """The newest first; those whose record has expired are taken off the list on the way."""
        with translated():
            ids = [i.decode() for i in self._client.zrevrange(self._keys.dead_letters, 0, limit - 1)]
        requests = self._records.briefs(ids)
        gone = set(ids) - {request.id for request in requests}
        if gone:
            with translated():
                self._client.zrem(self._keys.dead_letters, *gone)
        return requests

    def get(self, request_id: str) -> Request:
        """One dead letter; its ``timeline`` says who died of it, when and why.

        Raises:
            UnknownRequest: it is not on the list.
        """
        with translated():
            listed = self._client.zscore(self._keys.dead_letters, request_id) is not None
        if not listed:
            raise UnknownRequest(f"{request_id} is no dead letter")
        return self._records.get(request_id)

    def requeue(self, request_id: str) -> Request:
        """Run it again from the start, blame forgotten.

        Raises:
            UnknownRequest: it is not on the list.
            PurgedRequest: its image is gone.
        """
        request = self.get(request_id)
        message = envelope.seal(app, request.lane, [request_id])
        args = [self._keys.prefix, request_id, message]
        with translated():
            done = scripts.run(self._client, "requeue", self._keys.lane_and_bell(request.lane), args)
        if done == -1:
            raise PurgedRequest(f"the image of {request_id} has expired, it cannot run again")
        if done == 0:
            raise UnknownRequest(f"{request_id} is no dead letter any more")
        return self._records.get(request_id)

    def delete(self, request_id: str) -> None:
        """Take it off the list; its record stays failed until it expires.

        Raises:
            UnknownRequest: it is not on the list.
        """
        with translated():
            done = scripts.run(self._client, "discard", (), [self._keys.prefix, request_id])
        if not done:
            raise UnknownRequest(f"{request_id} is no dead letter")
