"""The names of the keys that Python and the Lua scripts share."""

from __future__ import annotations


class Keys:
    """Key names under one prefix; lanes keep their bare names in messages and get the prefix in Redis only."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.workers = f"{prefix}workers"
        self.paused = f"{prefix}paused"
        self.ledger = f"{prefix}ledger"
        self.counters = f"{prefix}counters"
        self.latency = f"{prefix}latency"
        self.recent = f"{prefix}recent"
        self.fleet = f"{prefix}fleet"
        self.batches = f"{prefix}batches"
        self.dead_letters = f"{prefix}dead_letters"
        self.image_bytes = f"{prefix}image_bytes"
        self.sweep_turn = f"{prefix}sweep_turn"
        self.probe = f"{prefix}probe"

    def lane(self, name: str) -> str:
        """The list of messages of a lane."""
        return f"{self.prefix}{name}"

    def bell(self, name: str) -> str:
        """The doorbell of a lane."""
        return f"{self.prefix}bell:{name}"

    def lane_and_bell(self, name: str) -> tuple[str, str]:
        """Where a script puts a message for this lane, and the lane's doorbell."""
        return self.lane(name), self.bell(name)

    def request(self, request_id: str) -> str:
        """The record of a request."""
        return f"{self.prefix}request:{request_id}"

    def gone(self, request_id: str) -> str:
        """The mark of a request whose id does not tell that it was given out; it outlives the record."""
        return f"{self.prefix}gone:{request_id}"

    def image(self, request_id: str) -> str:
        """The stored image of a request."""
        return f"{self.prefix}image:{request_id}"

    def upload(self, token: str) -> str:
        """An image on its way in, before its request is accepted."""
        return f"{self.prefix}upload:{token}"

    def unacked(self, boot: str) -> str:
        """What a worker holds: tag -> lane, newline, message."""
        return f"{self.prefix}unacked:{boot}"

    def lease(self, boot: str) -> str:
        """A worker's proof of life."""
        return f"{self.prefix}lease:{boot}"

    def orders(self, node: str) -> str:
        """What an operator wants of the worker of this node name."""
        return f"{self.prefix}orders:{node}"

    def death(self, boot: str) -> str:
        """How a worker ended, written by its guardian; unknown when there is nothing."""
        return f"{self.prefix}death:{boot}"

    def reply(self, process: str) -> str:
        """The reply list of a process that waits for answers."""
        return f"{self.prefix}reply:{process}"
