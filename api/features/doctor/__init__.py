"""What people get wrong when they set Inferlane up, looked at from the inside: ``GET /admin/doctor``.

A check is a function from an :class:`Installation` to checks, so each is tested on one made for it. What cannot be
known from here is ``None``, never guessed.
"""

from __future__ import annotations

from api.features.doctor import broker, configuration, workers
from api.features.doctor.installation import Check, Installation

__all__ = ["Check", "Installation", "examine"]


def examine(setup: Installation) -> list[Check]:
    """Every check, in a fixed order; when Redis does not answer, only what can be told without it."""
    return [check for part in (broker, workers, configuration) for look in part.LOOKS for check in look(setup)]
