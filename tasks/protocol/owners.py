"""Owners: each request and batch belongs to the name of the API key that made it.

Everything is stored under the *internal* id ``owner/id``, so that two owners may choose the same id and neither reaches
the other's. Requests made without a key belong to :data:`ANONYMOUS`; their internal id is the public one. What takes
a client raises BrokerUnavailable when Redis does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tasks.protocol.connections import Client, read_hash, translated
from tasks.protocol.keys import Keys

ANONYMOUS = "anonymous"
#: Neither a key's name nor an id may contain it; ``_prelude.lua`` and ``accept.lua`` know it, too.
SEPARATOR = "/"


def internal_id(owner: str, public: str) -> str:
    """The id under which ``owner``'s request or batch is stored."""
    return public if owner == ANONYMOUS else f"{owner}{SEPARATOR}{public}"


def public_id(internal: str) -> str:
    """The id as its owner knows it."""
    return internal.rpartition(SEPARATOR)[2]


def owner_of(internal: str) -> str:
    """The owner of a request or batch."""
    return internal.rpartition(SEPARATOR)[0] or ANONYMOUS


def known_owners(client: Client, keys: Keys) -> list[str]:
    """All owners with accepted requests: the anonymous first, then by name."""
    with translated():
        return [ANONYMOUS, *sorted(name.decode() for name in client.smembers(keys.owners))]


def weights(api_keys: Iterable[str]) -> dict[str, float]:
    """Owner -> weight of the entries of ``API_KEYS``, which the API has checked; 1 where none is given."""
    parts = [entry.split(":") for entry in api_keys]
    return {name: float(*more) if more else 1.0 for name, _, _, *more in parts}


def set_allowances(client: Client, keys: Keys, owner: str, given: Mapping[str, float | None]) -> None:
    """Set an owner's weight, cap or quota, which override the settings; None removes one."""
    with translated(), client.pipeline() as pipe:
        for what, value in given.items():
            for name in (_hashes(keys)[what], *([keys.weights_set] if what == "weight" else [])):
                if value is None:
                    pipe.hdel(name, owner)
                else:
                    pipe.hset(name, owner, value)
        pipe.execute()


def read_allowances(client: Client, keys: Keys) -> dict[str, dict[str, str]]:
    """``weight``, ``cap`` and ``quota``, each as owner -> value; owners without one have the default."""
    return {what: read_hash(client, name) for what, name in _hashes(keys).items()}


def _hashes(keys: Keys) -> dict[str, str]:
    return {"weight": keys.owner_weights, "cap": keys.owner_caps, "quota": keys.owner_quotas}


def write_weights(client: Client, keys: Keys, given: Mapping[str, float]) -> None:
    """Give owners the weights in ``API_KEYS``, unless others were set at run time."""
    with translated():
        client.hset(keys.owner_weights, mapping=dict(given))
        if later := client.hgetall(keys.weights_set):
            client.hset(keys.owner_weights, mapping=later)
