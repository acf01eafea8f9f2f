"""Puts the page together: layout, scripts, the routes behind it, and the headers of every answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dash import Dash
from flask import Response, request
from markupsafe import escape

from common.serving import answers_to, behind, icon
from common.settings import Settings
from dashboard import callbacks, routes
from dashboard.page.shell import layout

#: Nothing is loaded from, or sent to, other hosts. Dash needs inline scripts; the grid compiles its formatters.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'self';"
    " form-action 'self'; object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(settings: Settings, backend: routes.Backend | None = None) -> Dash:
    """A new dashboard.

    Args:
        settings: where the API is.
        backend: by default one that speaks to that API.
    """
    app = Dash(
        "inferlane-dashboard",
        assets_folder=str(Path(__file__).parent / "assets"),
        assets_ignore=r".*\.jpg",
        title="Inferlane",
        update_title="",
        compress=True,
        serve_locally=True,
        enable_mcp=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        health_endpoint="livez",
    )
    app.index_string = app.index_string.replace("{%favicon%}", '<link rel="icon" href="favicon.ico">')
    app.server.add_url_rule("/favicon.ico", "icon", icon)
    app.layout = layout(settings)
    callbacks.register(app)
    app.server.config["MAX_CONTENT_LENGTH"] = settings.max_image_bytes + 64 * 1024
    app.server.before_request(_check_host(settings))
    app.server.before_request(_refuse_callbacks)
    app.server.after_request(_add_headers)
    behind(app.server, settings.trusted_proxies)
    routes.register(app.server, backend or routes.backend_for(settings))
    return app


def _check_host(settings: Settings) -> Callable[[], tuple[str, int] | None]:
    """Refuse calls under a foreign name: they would use the keys of the operators who have logged in."""

    def check() -> tuple[str, int] | None:
        if answers_to(request.headers.get("Host"), settings.dashboard_host, settings.allowed_hosts):
            return None
        return f"This dashboard does not answer to the name {escape(request.host)}; see ALLOWED_HOSTS.", 421

    return check


def _refuse_callbacks() -> tuple[str, int, dict[str, str]] | None:
    """All callbacks run in the browser, so Dash's own route for them has no use."""
    if request.method in routes.SAFE or request.path.startswith(f"{routes.blueprint.url_prefix}/"):
        return None
    return "Nothing is posted here.", 405, {"Allow": ", ".join(sorted(routes.SAFE))}


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
