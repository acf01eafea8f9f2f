"""Allowances of an owner: its cap of open requests, and its quota of images in a calendar month (UTC); 0 is no limit.

The settings have the defaults, the hashes ``owner_caps`` and ``owner_quotas`` those of single owners. ``accept.lua``
enforces both and counts the open requests of the owners that have either, in the hash ``open``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from common.settings import Settings
from tasks.protocol import scripts
from tasks.protocol.connections import Client, translated
from tasks.protocol.keys import Keys


@dataclass(frozen=True, slots=True)
class Allowances:
    """The allowances of all owners, and the first day of this month by Redis' clock."""

    caps: Mapping[str, int] = field(default_factory=dict)
    quotas: Mapping[str, int] = field(default_factory=dict)
    counted: Collection[str] = ()
    month: date = date(1970, 1, 1)

    @classmethod
    def read(cls, client: Client, keys: Keys) -> Allowances:
        """As they are now, in one round trip; a value that is not a number is ignored."""
        with translated(), client.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.owner_caps)
            pipe.hgetall(keys.owner_quotas)
            pipe.hkeys(keys.open)
            pipe.time()
            caps, quotas, counted, (seconds, _) = pipe.execute()
        today = datetime.fromtimestamp(int(seconds), UTC).date()
        return cls(_numbers(caps), _numbers(quotas), {name.decode() for name in counted}, today.replace(day=1))

    def cap(self, owner: str, settings: Settings) -> int:
        """How many requests the owner may have open."""
        return self.caps.get(owner, settings.max_open_per_owner)

    def quota(self, owner: str, settings: Settings) -> int:
        """How many images it may send this month."""
        return self.quotas.get(owner, settings.monthly_quota)

    def of(self, owner: str, settings: Settings) -> str:
        """Both as arguments of ``accept.lua``, with the month; empty where an owner's requests need no counting."""
        cap, quota = self.cap(owner, settings), self.quota(owner, settings)
        return f"{cap} {quota} {self.first_day}" if cap or quota or owner in self.counted else ""

    def used(self, client: Client, keys: Keys, owner: str) -> int:
        """How much of its quota the owner has used: requests that ended this month, and open ones."""
        with translated():
            return int(scripts.run(client, "used", (), (keys.prefix, owner, self.first_day)))

    @property
    def first_day(self) -> int:
        """The first day of the month, in days since 1970."""
        return (self.month - date(1970, 1, 1)).days

    @property
    def resets(self) -> datetime:
        """When the next month begins."""
        following = (self.month + timedelta(days=31)).replace(day=1)
        return datetime(following.year, following.month, 1, tzinfo=UTC)


def _numbers(found: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in found.items() if value.isdigit()}
