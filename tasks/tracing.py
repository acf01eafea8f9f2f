"""OpenTelemetry, when ``OTEL_ENABLED`` asks for it: one trace from the HTTP request to the forward pass.

Imported only then, so an installation without it neither needs the packages (``requirements-otel.txt``) nor pays for
them. OpenTelemetry's instrumentation makes the spans of the HTTP request and of the running task. It cannot see the
publishing, because the accept script pushes the message itself and Celery's publish signals never fire, nor into the
batcher, whose one thread answers many requests at once: those spans, and the trace context in the message, come from
here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from settings import SettingsError

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError as error:
    raise SettingsError(f"OTEL_ENABLED: pip install -r requirements-otel.txt ({error})") from error

from tasks import envelope
from tasks.celery import app
from tasks.submit import Accepted, Entry, Gateway, Submission
from worker_models.batcher import Batcher, Slot

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from tasks.errors import TaskError

NAME = "inferlane"


@cache
def provider(service: str) -> TracerProvider:
    """The spans of this process go out from here, by OTLP over HTTP; the ``OTEL_*`` variables say where and how.

    Args:
        service: the service's name, unless ``OTEL_SERVICE_NAME`` gives it another.
    """
    name = os.environ.get("OTEL_SERVICE_NAME") or f"{NAME}-{service}"
    made = TracerProvider(resource=Resource.create({"service.name": name, "service.namespace": NAME}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


class TracedGateway(Gateway):
    """A gateway whose publishing is a span, and whose requests carry that span to the worker."""

    def _submit(self, submission: Submission, reply: str = "") -> Accepted:
        """What :meth:`tasks.submit.Gateway.submit` and ``submit_and_wait`` have in common."""
        with _publishing(1) as carried:
            return super()._submit(replace(submission, traceparent=carried), reply)

    def submit_many(self, items: Sequence[Submission]) -> list[Accepted | TaskError]:
        """As :meth:`tasks.submit.Gateway.submit_many`."""
        with _publishing(len(items)) as carried:
            return super().submit_many([replace(item, traceparent=carried) for item in items])

    def _submit_all(self, items: Sequence[Submission]) -> list[str]:
        """What :meth:`tasks.submit.Gateway.submit_all_and_wait` does with more than one."""
        with _publishing(len(items)) as carried:
            return super()._submit_all([replace(item, traceparent=carried) for item in items])

    def _seal(self, entries: Sequence[Entry]) -> str:
        """All requests of a message come from one call, so one context is right for all of them."""
        parent = entries[0].submission.traceparent or ""
        return envelope.seal(app, entries[0].lane, [entry.id for entry in entries], traceparent=parent)


@contextmanager
def _publishing(count: int) -> Iterator[str]:
    """A span around the publishing of ``count`` requests; yields its ``traceparent``."""
    about: dict[str, str | int] = {
        "messaging.system": "redis",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": count,
    }
    tracer = provider("api").get_tracer(NAME)
    with tracer.start_as_current_span(f"send {envelope.TASK}", kind=trace.SpanKind.PRODUCER, attributes=about):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield carrier["traceparent"]


class TracedModel:
    """A model whose decoding is a span; everything else is the model's own."""

    def __init__(self, model: Any, tracer: Tracer) -> None:
        self._model = model
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def decode(self, data: bytes) -> Any:
        """The network's input for one encoded image."""
        with self._tracer.start_as_current_span("decode", attributes={"image.bytes": len(data)}):
            return self._model.decode(data)


class TracedBatcher(Batcher[Any, Any]):
    """A batcher that remembers which trace each item came with, and gives each a span of its forward pass."""

    def __init__(self, infer: Callable[[Sequence[Any]], Sequence[Any]], *shape: int, tracer: Tracer) -> None:
        super().__init__(partial(_infer, infer, tracer), *shape)

    def submit(
        self, item: Any, *, rank: int = 0, solo: bool = False, then: Callable[[Slot[Any, Any]], object] | None = None
    ) -> Slot[Any, Any]:
        """As :meth:`worker_models.batcher.Batcher.submit`."""
        return super().submit((item, context.get_current()), rank=rank, solo=solo, then=then)


def _infer(infer: Callable[[Sequence[Any]], Sequence[Any]], tracer: Tracer, batch: Sequence[Any]) -> Sequence[Any]:
    began = time.time_ns()
    try:
        values = infer([item for item, _ in batch])
    except Exception as error:
        _tell(tracer, batch, began, error)
        raise
    _tell(tracer, batch, began, None)
    return values


def _tell(tracer: Tracer, batch: Sequence[Any], began: int, error: Exception | None) -> None:
    """The same forward pass once in the trace of every request that was in it."""
    ended = time.time_ns()
    for _, parent in batch:
        span = tracer.start_span("infer", parent, start_time=began, attributes={"batch.size": len(batch)})
        if error is not None:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, str(error))
        span.end(ended)


def trace_worker(model: Any) -> tuple[Any, Callable[..., Batcher[Any, Any]]]:
    """Have this worker's tasks traced; the model and the batcher to use instead of the plain ones."""
    spans = provider("worker")
    CeleryInstrumentor().instrument(  # type: ignore[no-untyped-call]
        tracer_provider=spans
    )
    tracer = spans.get_tracer(NAME)
    return TracedModel(model, tracer), partial(TracedBatcher, tracer=tracer)
