"""RQ's job. The worker loads the pipeline before it takes the first."""

from __future__ import annotations

from typing import Any

from bench.peers.servers import pipeline

loaded: dict[str, pipeline.Pipeline] = {}


def load() -> None:
    """Load, once in each worker."""
    loaded["pipeline"] = pipeline.load()


def classify(photo: bytes) -> dict[str, Any]:
    """One photo."""
    return pipeline.classify(loaded["pipeline"], photo)
