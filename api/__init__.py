"""The HTTP side of Inferlane: ``python -m api``.

Translates HTTP into calls of :mod:`tasks` and their results into JSON. It never decodes an image and never imports a
model runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from api.services import Factories
    from common.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None, *, factories: Factories | None = None) -> Flask:
    """A new API, see :func:`api.app.create_app`.

    A late import, so that ``python -m api.http.api_keys`` is not imported before it runs.
    """
    from api import app

    return app.create_app(settings, factories=factories)
