"""``python -m dashboard``: one process, since all its pages show the same few answers of the API."""

from __future__ import annotations

from common import logs
from common.front import Front
from common.serving import serve, settle
from common.settings import get_settings
from dashboard import create_server


def application() -> Front:
    """The application of the one process."""
    settings = get_settings()
    logs.configure(settings, "dashboard")
    server = create_server(settings)
    settle()
    most = int(server.config["MAX_CONTENT_LENGTH"])
    return Front(server, threads=16, most=most, memory=4 * most)


def main() -> None:
    """Serve until told to stop."""
    settings = get_settings()
    host, port = settings.dashboard_host, settings.dashboard_port
    serve("dashboard.__main__:application", name="dashboard", host=host, port=port, processes=1, patience=5)


if __name__ == "__main__":
    main()
