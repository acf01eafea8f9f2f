"""API keys: random, shown once, kept as SHA-256 only. ``python -m api.http.api_keys NAME [ROLE]`` makes one.

A key is 256 random bits, so a plain digest suffices at rest. A comparison checks every known key in constant time, so
timing reveals neither which key matched nor how much of it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from common.settings import Settings, SettingsError
from tasks.protocol.owners import ANONYMOUS

ROLES = ("user", "admin")
_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9_.@-]{1,64}):(?P<role>user|admin):(?P<digest>[0-9a-f]{64})"
    r"(:(?=.*[1-9])\d{1,4}(\.\d{1,4})?)?"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller; ``role`` is ``user`` or ``admin``, which includes ``user``."""

    name: str
    role: str


class KnownKeys:
    """The valid keys."""

    def __init__(self, known: Sequence[tuple[str, Caller]]) -> None:
        self._known = [(bytes.fromhex(digest), caller) for digest, caller in known]

    def __bool__(self) -> bool:
        return bool(self._known)

    @classmethod
    def of(cls, settings: Settings) -> KnownKeys:
        """The keys in ``API_KEYS`` and ``ADMIN_KEY``.

        Raises:
            SettingsError: an entry is malformed; the message does not repeat it.
        """
        known = [_entry(text) for text in settings.api_keys]
        if settings.admin_key:
            known.append((_admin_digest(settings.admin_key), Caller("admin", "admin")))
        return cls(known)

    def caller(self, key: str) -> Caller | None:
        """The key's owner; None if it is invalid."""
        digest = hashlib.sha256(key.encode()).digest()
        found = None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def _entry(text: str) -> tuple[str, Caller]:
    match = _ENTRY.fullmatch(text)
    if match is None or match["name"] == ANONYMOUS:
        raise SettingsError(
            "API_KEYS: each entry must be name:role:sha256-hex, perhaps with :weight (a number above 0), and no name be"
            " anonymous; `python -m api.http.api_keys` prints one"
        )
    return match["digest"], Caller(match["name"], match["role"])


def _admin_digest(text: str) -> str:
    kind, _, digest = text.partition(":")
    if kind != "sha256":
        return hashlib.sha256(text.encode()).hexdigest()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise SettingsError("ADMIN_KEY: after sha256: there must be 64 hexadecimal digits")
    return digest


def make(name: str, role: str = "user") -> tuple[str, str]:
    """A new key and its entry for ``API_KEYS``; :class:`SettingsError` for a wrong name or role."""
    key = "il_" + secrets.token_urlsafe(32)
    entry = f"{name}:{role}:{hashlib.sha256(key.encode()).hexdigest()}"
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
