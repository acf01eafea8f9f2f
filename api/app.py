"""Composition root of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from api.features import audit
from api.features.webhooks import transport
from api.http import auth, correlation, errors, openapi
from api.routes import BLUEPRINTS
from api.services import EXTENSION, Factories, Services
from api.version import VERSION
from common.serving import behind
from common.settings import Settings, get_settings
from tasks.producer.gateway import Gateway


class Api(Flask):
    """Flask without its check, on every request, whether a view or hook is a coroutine."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """``func`` as it is."""
        return func


def create_app(settings: Settings | None = None, *, factories: Factories | None = None) -> Flask:
    """A new API; ``factories`` replace service classes, for example by fakes.

    Opens no connection before the first request, so it is safe to create before a fork.

    Raises:
        SettingsError: a key or secret is malformed, or the API would be open to other machines.
    """
    settings = settings or get_settings()
    app = Api("inferlane", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    if settings.webhook_secret:
        transport.signer(settings.webhook_secret)
    if settings.otel_enabled:
        from api.http import tracing

        tracing.register(app)
        factories = {Gateway: tracing.traced_gateway, **(factories or {})}
    app.extensions[EXTENSION] = Services(settings, factories)
    behind(app, settings.trusted_proxies)
    correlation.register(app)
    auth.register(app, settings)
    errors.register(app)
    audit.register(app)
    api = openapi.create(app, VERSION)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    return app
