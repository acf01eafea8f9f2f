"""The names of the Redis keys that Python and the Lua scripts share."""

from __future__ import annotations

from collections.abc import Callable


class Keys:
    """Key names under one prefix; lanes have bare names in messages and the prefix in Redis only."""

    def __init__(self, prefix: str) -> None:
        def named(kind: str) -> Callable[[str], str]:
            return lambda name: f"{prefix}{kind}{name}"

        self.prefix = prefix
        # Of a request, by id.
        self.request = named("request:")  # the record
        self.image = named("image:")
        self.upload = named("upload:")  # by random token: an image whose request is not accepted yet
        self.gone = named("gone:")  # marks an id that is no UUIDv7 as used; outlives the record
        self.reply = named("reply:")  # by waiting thread: the list that is notified when a request ends
        # Of a lane, by name.
        self.lane = named("")  # the list of messages
        self.bell = named("bell:")  # wakes idle workers
        self.turns = named("turns:")  # of a shared lane: owner -> virtual time at which its next message starts
        # Of a worker, by boot id; orders by node name.
        self.unacked = named("unacked:")  # its deliveries: tag -> lane, newline, message
        self.lease = named("lease:")
        self.death = named("death:")  # how it ended, written by its guardian
        self.orders = named("orders:")  # an operator's orders
        # Of an owner, by name.
        self.recent_of = named("recent:")
        self.usage = named("usage:")  # with a colon and the day since 1970: MODEL:WHAT -> amount
        # Of the whole system.
        self.workers = f"{prefix}workers"
        self.worker_events = f"{prefix}worker_events"
        self.paused = f"{prefix}paused"
        self.ledger = f"{prefix}ledger"
        self.counters = f"{prefix}counters"
        self.latency = f"{prefix}latency"
        self.recent = f"{prefix}recent"
        self.owners = f"{prefix}owners"
        self.owner_weights = f"{prefix}owner_weights"
        self.weights_set = f"{prefix}weights_set"  # those of owner_weights that were set at run time
        self.owner_caps = f"{prefix}owner_caps"
        self.owner_quotas = f"{prefix}owner_quotas"
        self.open = f"{prefix}open"  # owner -> open requests, of those that have or had a cap or a quota
        self.shared = f"{prefix}shared"
        """Shared lanes, where owners take turns, with their virtual time; see ``_prelude.lua``."""
        self.batches = f"{prefix}batches"
        self.dead_letters = f"{prefix}dead_letters"
        self.image_bytes = f"{prefix}image_bytes"
        self.payloads = f"{prefix}payloads"  # references of images outside Redis, by when they may be deleted
        self.payload_system = f"{prefix}payload_system"  # the random name of this system in the store
        self.payload_turn = f"{prefix}payload_turn"
        self.retries = f"{prefix}retries"
        """Retries by when they are due: lane, newline, message."""
        self.sweep_turn = f"{prefix}sweep_turn"
        self.probe = f"{prefix}probe"

    def of_owner(self, lane: str, owner: str) -> tuple[str, str]:
        """An owner's two lists in a shared lane, the one that is served first in front."""
        return f"{self.prefix}ahead:{lane}:{owner}", f"{self.prefix}behind:{lane}:{owner}"

    def lane_and_bell(self, name: str) -> tuple[str, str]:
        """The keys that a script needs to put a message into a lane."""
        return self.lane(name), self.bell(name)
