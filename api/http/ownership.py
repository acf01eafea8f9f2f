"""Ownership: callers reach their own requests and batches only; admins reach all.

Ids in paths become internal ids (:mod:`tasks.protocol.owners`) before a route sees them. Another owner's id therefore
names a record that does not exist, and is answered like any unknown id.
"""

from __future__ import annotations

import hashlib

from flask import g, request

from api.http.problems import wrong_value
from api.services import service
from common.settings import Settings
from tasks.protocol.connections import prompt, translated
from tasks.protocol.keys import Keys
from tasks.protocol.owners import ANONYMOUS, internal_id, known_owners

#: Parameter in the path -> prefixes of the Redis keys that show the owner of such an id.
PATH_IDS = {"request_id": ("request:", "gone:"), "batch_id": ("api:batch:",)}


class Owners:
    """The owners known to Redis."""

    def __init__(self, settings: Settings) -> None:
        self._redis = prompt(settings.redis_url)
        self._keys = Keys(settings.key_prefix)

    def with_id(self, parameter: str, public: str) -> list[str]:
        """The owners that have a request or batch of this id."""
        kinds = [f"{self._keys.prefix}{kind}" for kind in PATH_IDS[parameter]]
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            owners = known_owners(self._redis, self._keys)
            for owner in owners:
                pipe.exists(*(f"{kind}{internal_id(owner, public)}" for kind in kinds))
            return [owner for owner, found in zip(owners, pipe.execute(), strict=True) if found]


def resolve_path() -> None:
    """Replace the ids in the path of the current request by internal ids."""
    arguments = request.view_args or {}
    for parameter in PATH_IDS.keys() & arguments:
        public = arguments[parameter]
        arguments[parameter] = internal_id(_owner(parameter, public), public)


def key_id(idempotency_key: str, key_name: str) -> str:
    """The request id for an ``Idempotency-Key``, quoted (as the draft standard has it) or not; empty for none.

    Two callers may use the same key.
    """
    said = f"{key_name}\0{unquoted(idempotency_key)}"
    return "key-" + hashlib.blake2b(said.encode(), digest_size=16).hexdigest() if unquoted(idempotency_key) else ""


def unquoted(header: str) -> str:
    """A header's value without white space and quotation marks around it."""
    return header.strip().strip('"')


def counted_owner() -> str | None:
    """The owner whose requests are counted for the caller; None for everybody's: an admin, or anyone without keys."""
    return None if g.get("sees_all", True) or g.owner == ANONYMOUS else str(g.owner)


def visible_owner() -> str | None:
    """The owner whose requests the caller lists; None for an admin who lists everybody's."""
    return request.args.get("owner") or None if g.sees_all else str(g.owner)


def _owner(parameter: str, public: str) -> str:
    if not g.sees_all:
        return str(g.owner)
    if named := request.args.get("owner"):
        return named
    owners = service(Owners).with_id(parameter, public)
    if len(owners) > 1:
        raise wrong_value("owner", "must be one of " + ", ".join(owners), f"Several owners have {public}.")
    return owners[0] if owners else str(g.owner)
