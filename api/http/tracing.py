"""OpenTelemetry for the API's routes; imported when ``OTEL_ENABLED`` asks for it (:mod:`tasks.producer.tracing`)."""

from __future__ import annotations

from flask import Flask

from tasks.producer.tracing import provider, traced_gateway  # first: it explains missing packages

from opentelemetry.instrumentation.flask import FlaskInstrumentor  # isort: skip


__all__ = ["register", "traced_gateway"]

#: Polled every few seconds by machines; their spans would bury all others.
PROBES = "livez,readyz,health,metrics,ops/snapshot"


def register(app: Flask) -> None:
    """A span for each request of ``app``, below the caller's own where a ``traceparent`` names it."""
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app, tracer_provider=provider("api"), excluded_urls=PROBES
    )
