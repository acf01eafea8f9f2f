"""``/models``: values of ``model_type``, and the live workers that serve them."""

from __future__ import annotations

from flask import Response

from api.http.openapi import Answer, Operations
from api.services import app_settings, service
from api.views.resources import reply
from api.views.system import model_rows
from tasks.inspect.monitor import Monitor

blueprint = Operations("models", __name__, description="Available models")


@blueprint.operation("GET", "/models", Answer("All models", "Models"))
def list_models() -> Response:
    """List the configured models and those of live workers."""
    return reply({"models": model_rows(app_settings().models, service(Monitor).workers())})
