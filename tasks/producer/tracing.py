"""OpenTelemetry, when ``OTEL_ENABLED`` asks for it: one trace from the HTTP request to the forward pass.

Imported only then: it needs the dependency group ``otel``. OpenTelemetry itself traces the HTTP request.
The accept script publishes the message, so Celery's signals never fire: that span is made here, a worker's spans in
:mod:`tasks.worker.spans`. The trace context travels in the request's record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

from common.settings import Settings, SettingsError

try:
    from opentelemetry import propagate, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError as error:
    raise SettingsError(f"OTEL_ENABLED: run scripts/setup.sh otel ({error})") from error

from tasks.producer.admission import Submission
from tasks.producer.gateway import Gateway
from tasks.protocol import envelope

NAME = "inferlane"


@cache
def provider(service: str) -> TracerProvider:
    """Exports the spans of ``service`` by OTLP over HTTP, as the ``OTEL_*`` variables say."""
    name = os.environ.get("OTEL_SERVICE_NAME") or f"{NAME}-{service}"
    made = TracerProvider(resource=Resource.create({"service.name": name, "service.namespace": NAME}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


@contextmanager
def publishing(items: Sequence[Submission]) -> Iterator[list[Submission]]:
    """A span around the publishing of requests; yields them with its ``traceparent``, which the worker's spans join."""
    about: dict[str, str | int] = {
        "messaging.system": "redis",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": len(items),
    }
    tracer = provider("api").get_tracer(NAME)
    with tracer.start_as_current_span(f"send {envelope.TASK}", kind=trace.SpanKind.PRODUCER, attributes=about):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield [replace(item, traceparent=carrier["traceparent"]) for item in items]


def traced_gateway(settings: Settings) -> Gateway:
    """A gateway whose publishing is traced."""
    return Gateway(settings, publishing)
