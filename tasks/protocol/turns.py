"""The backlog of a lane by owner, as ``_prelude.lua`` keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.protocol import envelope
from tasks.protocol.connections import Client
from tasks.protocol.keys import Keys
from tasks.protocol.owners import owner_of

#: Messages read in one round trip.
PAGE = 500


def messages(client: Client, keys: Keys, lane: str) -> Iterator[tuple[str, bytes]]:
    """Every message in a lane, with the key of its list.

    A message that moves meanwhile may appear twice; none is skipped, unless it goes back to the head of the lane.
    """
    yield from ((keys.lane(lane), text) for text in _all(client, keys.lane(lane)) if not _is_ticket(text))
    for owner in client.zrange(keys.turns(lane), 0, -1):
        for key in keys.of_owner(lane, owner.decode()):
            yield from ((key, text) for text in _all(client, key))


def _all(client: Client, key: str) -> Iterator[bytes]:
    """The elements of a list, newest first. Workers take from its end, so no page skips one."""
    start = 0
    while page := client.lrange(key, start, start + PAGE - 1):
        yield from page
        start += PAGE


def _is_ticket(element: bytes) -> bool:
    return element.endswith(b" ")


def heads(client: Client, keys: Keys, lanes: Sequence[str]) -> dict[str, list[str]]:
    """The next request of each owner, for each lane that is not empty: constant time per owner."""
    sharing = _owners(client, keys, lanes)
    lists = {
        lane: [keys.lane(lane), *(key for owner in sharing[lane] for key in keys.of_owner(lane, owner))]
        for lane in lanes
    }
    with client.pipeline(transaction=False) as pipe:
        for key in (key for some in lists.values() for key in some):
            pipe.lindex(key, -1)
        found = iter(pipe.execute())
    texts = {lane: [next(found) for _ in some] for lane, some in lists.items()}
    ids = {
        lane: [request_id for text in some if text and not _is_ticket(text) and (request_id := first_id(text))]
        for lane, some in texts.items()
    }
    return {lane: some for lane, some in ids.items() if some}


def first_id(message: bytes) -> str:
    """The id of the first request in a message; empty when it carries none."""
    return next(iter(envelope.requests_in(json.loads(message))), "")


def _owners(client: Client, keys: Keys, lanes: Sequence[str]) -> dict[str, list[str]]:
    """The owners with turns in each lane; none where a lane is not shared."""
    with client.pipeline(transaction=False) as pipe:
        for lane in lanes:
            pipe.zrange(keys.turns(lane), 0, -1)
        return {lane: [owner.decode() for owner in some] for lane, some in zip(lanes, pipe.execute(), strict=True)}


@dataclass(frozen=True, slots=True)
class Backlog:
    """The backlog: messages by lane and owner, and the owners' weights."""

    lanes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, client: Client, keys: Keys, lanes: Sequence[str]) -> Backlog:
        """As it is now, in two round trips."""
        sharing = _owners(client, keys, lanes)
        with client.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.owner_weights)
            for lane in lanes:
                pipe.llen(keys.lane(lane))
                pipe.lindex(keys.lane(lane), -1)
                for key in (key for owner in sharing[lane] for key in keys.of_owner(lane, owner)):
                    pipe.llen(key)
            found = iter(pipe.execute())
        weights = {name.decode(): float(value) for name, value in next(found).items()}
        return cls({lane: _by_owner(found, sharing[lane]) for lane in lanes}, weights)

    def shares(self, owner: str) -> dict[str, float]:
        """Lane -> the owner's share of its messages."""
        return {lane: counts.get(owner, 0) / sum(counts.values()) for lane, counts in self.lanes.items() if counts}

    def ahead(self, lane: str, owner: str, queued: int, mine: float | None = None) -> float:
        """Of ``queued`` requests in a lane, how many are served before the next one of an owner.

        These are its earlier ones (all, or ``mine``), and of each other owner as many as its weight allows meanwhile.
        """
        waiting = self.lanes.get(lane, {})
        total = sum(waiting.values())
        if not total or waiting.keys() <= {owner}:
            return float(queued if mine is None else min(mine, queued))
        scale = queued / total
        own = waiting.get(owner, 0) * scale
        if mine is not None:
            own = min(mine, max(own - 1, 0))
        turns = (own + 1) / self.weights.get(owner, 1.0)
        others = sum(
            min(count * scale, turns * self.weights.get(name, 1.0)) for name, count in waiting.items() if name != owner
        )
        return float(min(queued, own + others))


def _by_owner(found: Iterator[Any], owners: Sequence[str]) -> dict[str, int]:
    """Messages of each owner in a lane; those without a ticket belong to the owner of the last."""
    length, last = next(found), next(found)
    counts = {owner: next(found) + next(found) for owner in owners}
    rest = length - sum(counts.values())
    if last and rest > 0:
        owner = owner_of(first_id(last))
        counts[owner] = counts.get(owner, 0) + rest
    return {owner: count for owner, count in counts.items() if count}
