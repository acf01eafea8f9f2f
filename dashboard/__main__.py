"""``python -m dashboard``: one process, since all its pages show the same few answers of the API."""

from __future__ import annotations

from common import logs
from common.front import Front
from common.serving import serve, settle
from common.settings import get_settings
from dashboard.app import create_app


def application() -> Front:
    """The application of the one process."""
    settings = get_settings()
    logs.configure(settings, "dashboard")
    server = create_app(settings).server
    settle()
    most = int(server.config["MAX_CONTENT_LENGTH"])
    return Front(server, threads=16, most=most, memory=4 * most)


if __name__ == "__main__":
    host, port = get_settings().dashboard_host, get_settings().dashboard_port
    serve("dashboard.__main__:application", name="dashboard", host=host, port=port, processes=1, patience=5)
