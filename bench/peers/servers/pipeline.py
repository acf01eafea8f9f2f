"""Decode, infer, name the classes: what every peer serves.

``BENCH_RECIPE=onnxruntime`` is this project's own decoder, graph and session options, so that a peer differs from
Inferlane in the serving alone. ``torch`` is what quick starts show: torchvision's transforms on Pillow's image and the
network in eager PyTorch.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any, Protocol

from common.settings import Settings, get_settings


class Pipeline(Protocol):
    """The three steps; ``decode`` may be called from many threads."""

    def decode(self, data: bytes) -> Any:
        """The network's input for one encoded image."""

    def infer(self, batch: Sequence[Any]) -> Sequence[Any]:
        """One output for each input."""

    def predictions(self, output: Any, top_k: int) -> list[dict[str, Any]]:
        """The likeliest classes of one output."""


def load() -> Pipeline:
    """The pipeline that BENCH_MODEL and BENCH_RECIPE name, warm."""
    settings, model = get_settings(), os.environ["BENCH_MODEL"]
    if os.environ.get("BENCH_RECIPE", "onnxruntime") == "torch":
        return Eager(model, settings)
    from worker_models.model import load_model

    loaded = load_model(model, settings)
    loaded.warm_up()
    return loaded


def answer(pipeline: Pipeline, output: Any) -> dict[str, Any]:
    """The answer to the caller."""
    return {"predictions": pipeline.predictions(output, 5)}


def classify(pipeline: Pipeline, data: bytes) -> dict[str, Any]:
    """All steps for one photo."""
    return answer(pipeline, pipeline.infer([pipeline.decode(data)])[0])


class Eager:
    """torch and torchvision as their documentation uses them, on the threads torch chooses for itself."""

    def __init__(self, model: str, settings: Settings) -> None:
        import torch

        from worker_models.registry import describe
        from worker_models.torch_runtime import build
        from worker_models.weights import first_usable

        self._torch = torch
        card, folded = first_usable(describe(model), settings, lambda w: (w.card, build(w.card, w.obtain())))
        self._network = folded.network.eval()
        self._labels = _labels(card)
        self._transform = _transforms(card.transform)

    def decode(self, data: bytes) -> Any:
        """float32 ``(3, crop, crop)``."""
        from PIL import Image

        return self._transform(Image.open(io.BytesIO(data)).convert("RGB"))

    def infer(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Probabilities ``(classes,)`` for each."""
        with self._torch.inference_mode():
            return list(self._torch.softmax(self._network(self._torch.stack(list(batch))), dim=1))

    def predictions(self, output: Any, top_k: int) -> list[dict[str, Any]]:
        """As ``torch.topk`` ranks them."""
        values, indices = output.topk(top_k)
        return [
            {"class": self._labels[index], "index": index, "confidence": value}
            for value, index in zip(values.tolist(), indices.tolist(), strict=True)
        ]


def _labels(card: Any) -> Sequence[str]:
    from worker_models.registry import imagenet_labels

    return card.labels or imagenet_labels()


def _transforms(transform: Any) -> Any:
    from worker_models.builders import allow_torchvision

    allow_torchvision()
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(transform.resize, transforms.InterpolationMode(transform.interpolation)),
            transforms.CenterCrop(transform.crop),
            transforms.ToTensor(),
            transforms.Normalize([v / 255 for v in transform.mean], [v / 255 for v in transform.std]),
        ]
    )
