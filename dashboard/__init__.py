"""The dashboard of Inferlane: ``python -m dashboard``.

A Dash page and a few small routes behind it. It speaks HTTP to the API and to nothing else, decides nothing about
requests, and keeps nothing that would be missed after a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from common.settings import Settings

__all__ = ["create_server"]


def create_server(settings: Settings | None = None) -> Flask:
    """The WSGI application; it asks the API nothing before the first page does."""
    from common.settings import get_settings
    from dashboard.app import create_app

    server: Flask = create_app(settings or get_settings()).server
    return server
