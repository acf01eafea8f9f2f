"""OpenTelemetry: one trace over both processes, told to a real receiver of OTLP over HTTP."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.api.conftest import MODELS, TOY, image
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
RAW = {"Content-Type": "image/gif", "traceparent": f"00-{TRACE}-{PARENT}-01"}


class Collector(ThreadingHTTPServer):
    """Takes spans; ``spans`` holds them with their service's name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[tuple[str, Any]] = []

    def named(self, name: str, count: int = 1) -> list[Any]:
        """The spans of this name, as soon as there are ``count``."""
        wait_until(lambda: len(self._named(name)) >= count, 20, what=f"{count} spans {name}; {self.names()}")
        return self._named(name)

    def _named(self, name: str) -> list[Any]:
        return [span for _, span in list(self.spans) if span.name == name]

    def names(self) -> list[str]:
        return [f"{service}: {span.name}" for service, span in list(self.spans)]


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(item.value.string_value for item in group.resource.attributes if item.key == "service.name")
            self.server.spans += [(service, span) for scope in group.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def traced(stack: Stack, collector: Collector) -> ApiProcess:
    """A worker and an API that tell the collector."""
    told = {
        "OTEL_ENABLED": 1,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": 100,
    }
    stack.start_worker(TOY, name="toy-1", MODELS=MODELS, **told)
    return stack.start_api(MODELS=MODELS, **told)


def test_one_trace_leads_from_the_caller_to_the_forward_pass(traced: ApiProcess, collector: Collector) -> None:
    answer = traced.client.post("/inference?model_type=toy", content=image(), headers=RAW)
    assert (answer.status_code, answer.json()["trace_id"]) == (200, TRACE)
    line = [collector.named(name)[0] for name in ("POST /inference", "send inferlane.infer", "run/inferlane.infer")]
    for span in (*line, decoded := collector.named("decode")[0], inferred := collector.named("infer")[0]):
        assert span.trace_id.hex() == TRACE, span.name
    assert [span.parent_span_id.hex() for span in line] == [PARENT, *(span.span_id.hex() for span in line[:2])]
    assert decoded.parent_span_id == inferred.parent_span_id == line[-1].span_id
    assert decoded.end_time_unix_nano <= inferred.start_time_unix_nano < inferred.end_time_unix_nano
    assert sorted(collector.names()) == [
        "inferlane-api: POST /inference", "inferlane-api: send inferlane.infer", "inferlane-worker: decode",
        "inferlane-worker: infer", "inferlane-worker: run/inferlane.infer",
    ]  # fmt: skip


def test_requests_that_share_a_forward_pass_have_a_span_of_it_each(traced: ApiProcess, collector: Collector) -> None:
    files = [("image", (f"{i}.gif", image("sleep 0.1"))) for i in range(4)]
    answer = traced.client.post("/batch_inference", files=files, data={"model_type": "toy"}, headers={})
    assert answer.json()["counts"]["succeeded"] == 4, answer.text
    spans = collector.named("infer", 4)
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.start_time_unix_nano for span in spans}) < 4
    assert collector.named("send inferlane.infer")[0].trace_id == spans[0].trace_id


def test_a_failure_is_told_on_its_span_alone(traced: ApiProcess, collector: Collector) -> None:
    assert traced.client.post("/inference?model_type=toy", content=image(" bad "), headers=RAW).status_code == 422
    (decoded,) = collector.named("decode")
    assert decoded.events[0].name == "exception"


def test_a_retry_stays_in_its_trace(traced: ApiProcess, collector: Collector, tmp_path: Path) -> None:
    order = image(f"flaky {tmp_path / 'times'} 1")
    answer = traced.client.post("/inference?model_type=toy", content=order, headers=RAW)
    assert (answer.status_code, answer.json()["attempts"]) == (200, 2)
    failed, succeeded = collector.named("infer", 2)
    assert (failed.status.code, failed.events[0].name, succeeded.status.code) == (2, "exception", 0)
    runs = {span.span_id for span in collector.named("run/inferlane.infer", 2)}
    assert {failed.parent_span_id, succeeded.parent_span_id} == runs
    assert failed.trace_id.hex() == succeeded.trace_id.hex() == TRACE


def test_probes_make_no_spans(traced: ApiProcess, collector: Collector) -> None:
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        traced.client.get(path)
    traced.client.get("/models")
    collector.named("GET /models")
    assert not [name for name in collector.names() if "livez" in name or "ready" in name or "metrics" in name]


def test_a_worker_without_it_imports_nothing_of_it() -> None:
    """redis-py looks for OpenTelemetry's API on its own account; ours are the exporter and the instrumentation."""
    ours = "{'tasks.producer.tracing', 'opentelemetry.exporter', 'opentelemetry.instrumentation'}"
    code = f"import sys, tasks.worker.process; sys.exit(bool({ours} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
