"""Republishes requests whose messages were lost: ``celery purge``, a revoked task, a deleted lane. Trims lists of ids.

The ledger has the number of queued requests per lane. If the lane and the workers hold messages for fewer, the records
show which are missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

from redis.exceptions import OutOfMemoryError

from tasks.producer.live_workers import read_queued
from tasks.protocol import envelope, scripts
from tasks.protocol.connections import Client
from tasks.protocol.keys import Keys
from tasks.protocol.turns import messages

log = logging.getLogger(__name__)

#: Seconds between sweeps, by any worker, and for which the lists of recent requests keep an id.
INTERVAL = 10
RECENT = 90_000
#: Retries or records read in one round trip.
PAGE = 500


class Sweep:
    """Looks for lost messages, for all workers of one Redis."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._trimmed = 0

    def run(self) -> int:
        """The number of republished requests; 0 when another worker has swept recently."""
        if not self._take_turn():
            return 0
        self._trim()
        lost = self._lost()
        if lost:  # Messages move between lanes and workers: only a request that is missing twice has lost its message.
            again = self._lost()
            lost = {request_id: lane for request_id, lane in lost.items() if request_id in again}
        published = sum(self._publish(request_id, lane) for request_id, lane in lost.items())
        if published:
            log.warning("%d queued request(s) had lost their message and were published again", published)
        return published

    def _take_turn(self) -> bool:
        turn = self._keys.sweep_turn
        try:
            if self._client.set(turn, "1", nx=True, ex=INTERVAL):
                return True
        except OutOfMemoryError:
            return False  # Redis is full, and reachable: that must not keep this worker from declaring others dead.
        if self._client.ttl(turn) > INTERVAL:  # the host's clock was set back
            self._client.delete(turn)
        return False

    def _trim(self) -> None:
        """Remove old ids from the lists of recent requests, once a minute at most."""
        now = self._client.time()[0]
        if now - self._trimmed < 60:
            return
        self._trimmed = now
        owners = [name.decode() for name in self._client.smembers(self._keys.owners)]
        with self._client.pipeline(transaction=False) as pipe:
            for recent in (self._keys.recent, *map(self._keys.recent_of, owners)):
                pipe.zremrangebyscore(recent, "-inf", now - RECENT)
            pipe.execute()

    def _lost(self) -> dict[str, str]:
        """Ids of queued requests without a message, newest first, with their lanes."""
        began = self._client.time()[0]
        short = self._short_lanes()
        if not short:
            return {}
        found = {lane: self._carried(lane) for lane in short}
        for lane, ids in (*self._held(), *self._retries()):
            if lane in found:
                found[lane].update(ids)
        missing = {lane for lane, queued in short.items() if len(found[lane]) < queued}
        if not missing:
            return {}
        lost = [
            (created, request_id, lane)
            for request_id, lane, created in self._queued()
            if lane in missing and request_id not in found[lane] and created < began
        ]
        return {request_id: lane for _, request_id, lane in sorted(lost, reverse=True)}

    def _short_lanes(self) -> dict[str, int]:
        """Lanes with fewer messages than queued requests, and how many are queued; workers may hold the others."""
        queued = {lane: count for lane, count in read_queued(self._client, self._keys).items() if count > 0}
        with self._client.pipeline(transaction=False) as pipe:
            for lane in queued:
                pipe.llen(self._keys.lane(lane))
            lengths = pipe.execute()
        return {lane: count for (lane, count), length in zip(queued.items(), lengths, strict=True) if length < count}

    def _carried(self, lane: str) -> set[str]:
        """Ids of the requests in the messages of a lane."""
        texts = (text for _, text in messages(self._client, self._keys, lane))
        return {request_id for text in texts for request_id in envelope.requests_in(json.loads(text))}

    def _held(self) -> Iterator[tuple[str, list[str]]]:
        """Lane and request ids of each delivery held by a worker."""
        boots = [boot.decode() for boot in self._client.hkeys(self._keys.workers)]
        with self._client.pipeline(transaction=False) as pipe:
            for boot in boots:
                pipe.hvals(self._keys.unacked(boot))
            for values in pipe.execute():
                for value in values:
                    lane, _, ids = envelope.unpack(value)
                    yield lane, ids

    def _retries(self) -> Iterator[tuple[str, list[str]]]:
        """Lane and request ids of each retry that is not due."""
        for value, _ in self._client.zscan_iter(self._keys.retries, count=PAGE):
            lane, _, ids = envelope.unpack(value)
            yield lane, ids

    def _queued(self) -> Iterator[tuple[str, str, float]]:
        """Id, lane and time of creation of every queued request."""
        prefix, cursor = self._keys.request(""), -1
        while cursor:
            cursor, names = self._client.scan(max(cursor, 0), match=f"{prefix}*", count=PAGE)
            with self._client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hmget(name, "state", "lane", "created")
                for name, (state, lane, created) in zip(names, pipe.execute(), strict=True):
                    if state == b"queued":
                        yield name.decode().removeprefix(prefix), lane.decode(), float(created)

    def _publish(self, request_id: str, lane: str) -> int:
        # A new task id, because workers remember revoked ids.
        message = envelope.seal(lane, [request_id], fresh=True)
        keys = self._keys.lane_and_bell(lane)
        return int(scripts.run(self._client, "republish", keys, [self._keys.prefix, request_id, message]))
