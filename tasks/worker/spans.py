"""A worker's spans, made when a delivery has ended, from the times that the pipeline notes anyway.

OpenTelemetry's own instrumentation of Celery cannot see into the pipeline, whose threads work on many requests at once.
Imported only when ``OTEL_ENABLED`` asks for it, as :mod:`tasks.producer.tracing`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, Tracer

from tasks.producer.tracing import NAME, provider
from tasks.protocol import envelope
from tasks.worker.delivery import Delivery


def trace_worker() -> Callable[[Delivery], None]:
    """The ``trace`` of a worker's pipeline."""
    return partial(_tell, provider("worker").get_tracer(NAME))


def _tell(tracer: Tracer, delivery: Delivery) -> None:
    """One span of the delivery, and in it one of each decoding and each forward pass."""
    if not delivery.entries:
        return
    ahead = time.time() - time.monotonic()
    specs = [entry.attempt.spec for entry in delivery.entries if entry.attempt]
    run = tracer.start_span(
        f"run/{envelope.TASK}",
        propagate.extract({"traceparent": specs[0].get("traceparent", "")}),
        kind=trace.SpanKind.CONSUMER,
        start_time=_nanoseconds(delivery.taken + ahead),
        attributes={"messaging.batch.message_count": len(delivery.ids)},
    )
    inside = trace.set_span_in_context(run)
    for entry in delivery.entries:
        span = tracer.start_span("decode", inside, start_time=_nanoseconds(entry.decode_began + ahead))
        _end(span, entry.decode_began + entry.decode_seconds + ahead, None if entry.began else entry.error)
        if entry.began:
            start, size = _nanoseconds(entry.began + ahead), entry.size
            span = tracer.start_span("infer", inside, start_time=start, attributes={"batch.size": size})
            _end(span, entry.began + entry.seconds + ahead, entry.error)
    _end(run, time.time(), delivery.fault)


def _end(span: Span, at: float, error: BaseException | None) -> None:
    if error is not None:
        span.record_exception(error)
        span.set_status(trace.StatusCode.ERROR, str(error))
    span.end(_nanoseconds(at))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
