"""The ``Prefer`` request header (RFC 7240): whether and how long to wait for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask import request

from api.http.correlation import add_headers
from api.services import app_settings


@dataclass(frozen=True, slots=True)
class Preference:
    """A caller's preference, within the allowed limits.

    Attributes:
        wait: seconds to wait for the answer; 0 answers at once.
        applied: the value for ``Preference-Applied``; empty without a preference.
    """

    wait: float
    applied: str


def preference(default: float | None = None) -> Preference:
    """The preference of the current request, by default to wait; sets ``Preference-Applied``."""
    most = app_settings().max_wait
    found = parse([request.headers.get("Prefer", "")], default=most if default is None else default, most=most)
    add_headers({"Vary": "Prefer"} | ({"Preference-Applied": found.applied} if found.applied else {}))
    return found


def parse(values: Sequence[str], *, default: float, most: float) -> Preference:
    """The preference in the given ``Prefer`` header values.

    ``wait=n`` waits ``n`` seconds, at most ``most``; ``respond-async`` alone does not wait; without either it is
    ``default`` seconds. A malformed or unknown preference is ignored, as the RFC asks; of equal ones the first counts.
    """
    if not any(values):
        return Preference(default, "")
    tokens: dict[str, str] = {}
    for part in ",".join(values).split(","):
        name, _, value = part.partition(";")[0].partition("=")
        tokens.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = tokens.get("wait", "")
    if wait.isascii() and wait.isdigit():
        clamped = min(int(wait[:9]), int(most))
        return Preference(clamped, f"wait={clamped}")
    if "respond-async" in tokens:
        return Preference(0, "respond-async")
    return Preference(default, "")
