"""How a scene says that the system did not do what the scene shows."""

from __future__ import annotations


class SceneError(RuntimeError):
    """The system did something else than it promises; the message says what."""


def expect(holds: object, otherwise: str) -> None:
    """Raise :class:`SceneError` with ``otherwise`` unless ``holds``."""
    if not holds:
        raise SceneError(otherwise)
