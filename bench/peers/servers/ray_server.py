"""Ray Serve on a private local Ray, with ``serve.batch`` or without."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from bench.peers.servers import pipeline

BATCH = int(os.environ.get("BENCH_BATCH", "1"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))


class Single:
    """One photo a request, as its image example does it."""

    def __init__(self) -> None:
        self.pipeline = pipeline.load()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The whole request in the replica's event loop."""
        return pipeline.classify(self.pipeline, await request.body())


class Batched(Single):
    """Photos that arrive together share a forward pass, in a thread so that the event loop stays free."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Join a batch."""
        return await self.classify(await request.body())

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.005)
    async def classify(self, photos: list[bytes]) -> list[dict[str, Any]]:
        """One pass."""
        return await asyncio.to_thread(self._classify, photos)

    def _classify(self, photos: list[bytes]) -> list[dict[str, Any]]:
        outputs = self.pipeline.infer([self.pipeline.decode(photo) for photo in photos])
        return [pipeline.answer(self.pipeline, output) for output in outputs]


def main() -> None:
    """Serve until told to stop."""
    ray.init(
        address="local", num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False,
        object_store_memory=200 * 2**20, _temp_dir=os.environ["BENCH_FOLDER"], configure_logging=False,
    )  # fmt: skip
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    deployment = serve.deployment(
        Batched if BATCH > 1 else Single, num_replicas=WORKERS, ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=64,
    )  # fmt: skip
    serve.run(deployment.bind(), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()


if __name__ == "__main__":
    main()
