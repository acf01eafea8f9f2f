"""BentoML: ``bentoml serve`` on this service, with its adaptive batching or without."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from bench.peers.servers import pipeline

BATCH = int(os.environ.get("BENCH_BATCH", "1"))
Photo = Annotated[Path, ContentType("image/jpeg")]


@bentoml.service(
    workers=int(os.environ.get("BENCH_WORKERS", "1")),
    threads=int(os.environ.get("BENCH_THREADS", "1")),
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Classifier:
    """One photo a request."""

    def __init__(self) -> None:
        self.pipeline = pipeline.load()

    if BATCH > 1:

        @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
        def predict(self, images: list[Photo]) -> list[dict[str, Any]]:
            """A batch that BentoML's dispatcher has collected."""
            outputs = self.pipeline.infer([self.pipeline.decode(image.read_bytes()) for image in images])
            return [pipeline.answer(self.pipeline, output) for output in outputs]

    else:

        @bentoml.api
        def predict(self, images: Photo) -> dict[str, Any]:
            """One photo."""
            return pipeline.classify(self.pipeline, images.read_bytes())
