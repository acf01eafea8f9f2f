"""LitServe: decode, predict and encode in its inference workers, batches collected by its loop.

No postponed annotations here: LitServe reads those of ``decode_request`` to learn what a request is.
"""

import base64
import os
from typing import Any

import litserve

from bench.peers.servers import pipeline

BATCH = int(os.environ.get("BENCH_BATCH", "1"))


class Classifier(litserve.LitAPI):
    """One photo a request: base64 in JSON as in its image example, or a file of a form."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes it
        """Load, once in each inference worker."""
        self.pipeline = pipeline.load()

    def decode_request(self, request) -> Any:
        """The network's input."""
        if "image" in request:
            return self.pipeline.decode(request["image"].file.read())
        return self.pipeline.decode(base64.b64decode(request["image_data"]))

    def predict(self, x: Any) -> Any:
        """One output, or one for each item of a batch."""
        return self.pipeline.infer(x) if BATCH > 1 else self.pipeline.infer([x])[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        """JSON."""
        return pipeline.answer(self.pipeline, output)


class Batched(Classifier):
    """The pipeline stacks and splits a batch itself, so LitServe's own stacking would only copy."""

    def batch(self, inputs: Any) -> Any:
        """The inputs as they are."""
        return inputs

    def unbatch(self, output: Any) -> Any:
        """One output after the other."""
        return list(output)


if __name__ == "__main__":
    api = Batched(max_batch_size=BATCH, batch_timeout=0.01) if BATCH > 1 else Classifier()
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ.get("BENCH_WORKERS", "1")),
        fast_queue=os.environ.get("BENCH_FAST_QUEUE") == "1", timeout=120,
    )  # fmt: skip
    server.run(
        host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning",
        num_api_servers=int(os.environ.get("BENCH_API_SERVERS", "1")),
    )  # fmt: skip
