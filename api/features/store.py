"""What the API itself keeps in Redis, beside the requests that :mod:`tasks` owns: batches, budgets, shared answers.

Every key lives under ``<prefix>api:`` and expires by itself. Nothing here knows the state of a request.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.protocol.connections import prompt, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.settings import Settings

LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Member:
    """One item of a batch: the request it became, or the error that kept it from becoming one."""

    index: int
    custom_id: str | None
    request_id: str | None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: ``created_at`` in epoch seconds, its members in the order sent, whom to tell when all have ended."""

    created_at: float
    members: Sequence[Member]
    callback_url: str | None = None


class Store:
    """Which items a batch has, how many calls a caller has left.

    Every method raises :class:`tasks.errors.Unavailable` when Redis does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._prefix = f"{settings.key_prefix}api:"
        self._spend = self._redis.register_script((LUA / "spend.lua").read_text())
        self._keep = self._redis.register_script((LUA / "keep.lua").read_text())
        self._release = self._redis.register_script((LUA / "release.lua").read_text())
        self._ttl = max(settings.result_ttl, settings.failure_ttl)

    def spend(self, who: str, calls: int, seconds: float, cost: int = 1) -> tuple[int, float]:
        """Take ``cost`` calls from the budget of ``who``: ``calls`` in any ``seconds``. All of them or none.

        Returns:
            How many calls are left, -1 when these are refused; and the seconds until the budget is full again, or
            until as many are allowed when these are refused.
        """
        with translated():
            left, after = self._spend(keys=[f"{self._prefix}budget:{who}"], args=[calls, seconds, cost])
        return int(left), float(after)

    def claim(self, key: str, request_id: str, seconds: int) -> str:
        """What ``key`` stands for: the given request id, or the one that claimed it in the last ``seconds``."""
        with translated():
            known = self._redis.set(f"{self._prefix}cache:{key}", request_id, nx=True, get=True, ex=seconds)
        return request_id if known is None else _text(known)

    def release(self, key: str, request_id: str) -> None:
        """Let ``key`` be claimed again, if it still stands for ``request_id``."""
        with translated():
            self._release(keys=[f"{self._prefix}cache:{key}"], args=[request_id])

    def same_batch(self, batch_id: str, fingerprint: str) -> bool:
        """Whether the batch of this id has these items; true when there has been none of this id."""
        return self.claim(f"batch:{batch_id}", fingerprint, self._ttl) == fingerprint

    def save_batch(self, batch_id: str, batch: Batch) -> None:
        """Remember a batch for as long as the longest-lived of its requests is remembered."""
        args = [json.dumps(asdict(batch)), self._ttl]
        with translated():
            self._keep(keys=[f"{self._prefix}batch:{batch_id}"], args=args)

    def batch(self, batch_id: str) -> Batch | None:
        """The batch; None when it is not known."""
        with translated():
            text = self._redis.get(f"{self._prefix}batch:{batch_id}")
        if text is None:
            return None
        kept = json.loads(_text(text))
        members = [Member(**member) for member in kept["members"]]
        return Batch(kept["created_at"], members, kept.get("callback_url"))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
