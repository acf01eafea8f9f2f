"""``python -m dashboard``: one process, since all its pages show the same few answers of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import logs
from dashboard import create_server
from serving import serve, settle
from settings import get_settings

if TYPE_CHECKING:
    from flask import Flask


def application() -> Flask:
    """The application of the one process."""
    settings = get_settings()
    logs.configure(settings, "dashboard")
    server = create_server(settings)
    settle()
    return server


def main() -> None:
    """Serve until told to stop."""
    settings = get_settings()
    host, port = settings.dashboard_host, settings.dashboard_port
    serve("dashboard.__main__:application", name="dashboard", host=host, port=port, processes=1, threads=16, patience=5)


if __name__ == "__main__":
    main()
