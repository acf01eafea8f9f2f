"""API keys: random, shown once, kept as SHA-256 only. ``python -m api.http.api_keys NAME [ROLE]`` makes one.

A key is 256 random bits, so a plain digest suffices at rest. A caller's key is looked up by its digest. The timing may
leak something about digests, but nobody can choose a key by its digest or invert one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.settings import Settings, SettingsError
from tasks.protocol.owners import ANONYMOUS

ROLES = ("user", "admin")
NAME = r"[A-Za-z0-9_.@-]{1,64}"
_ENTRY = re.compile(
    rf"(?P<name>{NAME}):(?P<role>user|admin):(?P<digest>[0-9a-f]{{64}})(:(?=.*[1-9])\d{{1,4}}(\.\d{{1,4}})?)?"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and its owner.

    Attributes:
        id: for operators; reveals nothing of the key.
        name: the owner.
        role: ``user``, or ``admin``, which includes ``user``.
        digest: the SHA-256 of the key, in hexadecimal.
        created_at: epoch seconds; None for a key from the settings.
        created_by: the owner of the key that made it.
    """

    id: str
    name: str
    role: str
    digest: str = field(repr=False)
    created_at: float | None = None
    created_by: str = ""


class KnownKeys:
    """The keys in ``API_KEYS`` and ``ADMIN_KEY``, and those that a subclass adds.

    Attributes:
        fixed: the keys of the settings, by digest.
        known: all valid keys, by digest; replaced as a whole.

    Raises:
        SettingsError: an entry is malformed; the message does not repeat it.
    """

    def __init__(self, settings: Settings) -> None:
        found = [_entry(text) for text in settings.api_keys]
        if settings.admin_key:
            found.append(ApiKey("ADMIN_KEY", "admin", "admin", _admin_digest(settings.admin_key)))
        self.fixed: Mapping[str, ApiKey] = {key.digest: key for key in found}
        self.known = self.fixed

    def remembered(self, key: str) -> ApiKey | None:
        """The key, if this process knows it."""
        return self.known.get(digest_of(key))

    def made_at_run_time(self, key: str) -> bool:
        """Whether this process knows the key as one that Inferlane made: nobody guesses it."""
        found = self.remembered(key)
        return found is not None and found.created_at is not None

    def caller(self, key: str) -> ApiKey | None:
        """The key, if it is valid."""
        return self.remembered(key)


def digest_of(key: str) -> str:
    """The stored form of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def id_of(digest: str) -> str:
    """The id of a random key."""
    return digest[:16]


def valid_name(name: object) -> bool:
    """Whether a key may have this name; the path of ``/admin/owners`` cannot carry ``.`` and ``..``."""
    return isinstance(name, str) and bool(re.fullmatch(NAME, name)) and name not in {ANONYMOUS, ".", ".."}


def _entry(text: str) -> ApiKey:
    match = _ENTRY.fullmatch(text)
    if match is None or not valid_name(match["name"]):
        raise SettingsError(
            "API_KEYS: each entry must be name:role:sha256-hex, optionally with :weight (a number above 0); the names"
            " anonymous, . and .. are reserved; `python -m api.http.api_keys` prints one"
        )
    return ApiKey(id_of(match["digest"]), match["name"], match["role"], match["digest"])


def _admin_digest(text: str) -> str:
    kind, _, digest = text.partition(":")
    if kind != "sha256":
        return digest_of(text)
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise SettingsError("ADMIN_KEY: after sha256: there must be 64 hexadecimal digits")
    return digest


def random_key() -> str:
    """A new key."""
    return "il_" + secrets.token_urlsafe(32)


def make(name: str, role: str = "user") -> tuple[str, str]:
    """A new key and its entry for ``API_KEYS``; :class:`SettingsError` for a wrong name or role."""
    key = random_key()
    entry = f"{name}:{role}:{digest_of(key)}"
    _entry(entry)
    return key, entry


def main(arguments: Sequence[str]) -> int:
    """Print a new key and its entry; 2 when the arguments are wrong."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m api.http.api_keys NAME [user|admin]\n")
        return 2
    try:
        key, entry = make(*arguments)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"key, shown only now: {key}\nadd to API_KEYS:     {entry}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
