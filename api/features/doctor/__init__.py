"""What people get wrong when they set Inferlane up, looked at from the inside: ``GET /admin/doctor``.

A check is a function from :class:`~api.features.doctor.facts.Facts` to checks, so each is tested on facts made for it.
What cannot be known from here is ``None``, never guessed.
"""

from __future__ import annotations

from api.features.doctor import broker, fleet, house
from api.features.doctor.facts import Check, Facts

__all__ = ["Check", "Facts", "examine"]


def examine(facts: Facts) -> list[Check]:
    """Every check, in a fixed order; when Redis does not answer, only what can be told without it."""
    return [check for part in (broker, fleet, house) for look in part.LOOKS for check in look(facts)]
