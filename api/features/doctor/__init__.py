"""Checks of the installation from the inside: ``GET /admin/doctor``.

A check is a function of an :class:`Installation`, so tests construct one. What cannot be known here is ``None``, never
guessed.
"""

from __future__ import annotations

from api.features.doctor import broker, configuration, workers
from api.features.doctor.installation import Check, Installation, inspect

__all__ = ["Check", "Installation", "examine", "inspect"]


def examine(setup: Installation) -> list[Check]:
    """Every check, in a fixed order; without Redis, those that do not need it."""
    return [check for part in (broker, workers, configuration) for look in part.LOOKS for check in look(setup)]
