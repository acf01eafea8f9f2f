"""Which items a batch has, in Redis; it expires with the longest-lived of its requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.settings import Settings
from tasks.protocol.connections import prompt, translated


@dataclass(frozen=True, slots=True)
class Member:
    """One item of a batch: its request, or the error that rejected it."""

    index: int
    custom_id: str | None
    request_id: str | None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: ``created_at`` in epoch seconds, its members in the order sent, the webhook to send at its end."""

    created_at: float
    members: Sequence[Member]
    callback_url: str | None = None

    @property
    def request_ids(self) -> list[str]:
        """The ids of the accepted members."""
        return [member.request_id for member in self.members if member.request_id]


class Batches:
    """All batches. Every method raises :class:`tasks.errors.Unavailable` when Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._prefix = f"{settings.key_prefix}api:"
        self._keep = self._redis.register_script((Path(__file__).parent / "keep.lua").read_text())
        self._ttl = max(settings.result_ttl, settings.failure_ttl)

    def has_items(self, batch_id: str, fingerprint: str) -> bool:
        """Whether the batch of this id has these items; true for a new id."""
        key = f"{self._prefix}batch_items:{batch_id}"
        with translated():
            known = self._redis.set(key, fingerprint, nx=True, get=True, ex=self._ttl)
        return known is None or known == fingerprint.encode()

    def save(self, batch_id: str, batch: Batch) -> None:
        """Keep a batch."""
        with translated():
            self._keep(keys=[f"{self._prefix}batch:{batch_id}"], args=[json.dumps(asdict(batch)), self._ttl])

    def batch(self, batch_id: str) -> Batch | None:
        """The batch; None when it is not known."""
        with translated():
            text = self._redis.get(f"{self._prefix}batch:{batch_id}")
        if text is None:
            return None
        kept = json.loads(text)
        return Batch(**kept | {"members": [Member(**member) for member in kept["members"]]})
