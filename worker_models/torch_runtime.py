"""The torch runtime: eager on a CPU; on CUDA channels-last, with the fastest autocast type that keeps the answers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import cast

import numpy as np
import torch

from common.settings import Settings
from worker_models.errors import InferenceFailed
from worker_models.machine import intra_op_threads
from worker_models.network import Folded
from worker_models.runtimes import Pixels, Probabilities

MAX_DIFFERENCE = 0.02
"""How far a probability may move under autocast before the type is rejected."""


class TorchRuntime:
    """A network run by torch itself."""

    name = "torch"
    max_batch: int | None = None
    passes = 1

    def __init__(self, network: Folded, settings: Settings, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._cuda = self.device.startswith("cuda")
        if not self._cuda:
            torch.set_num_threads(intra_op_threads(settings))
        # Convolutions on tensor cores want the channels last; on a CPU eager torch is faster without.
        layout = torch.channels_last if self._cuda else torch.contiguous_format
        self._network = network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        self.autocast = self._fastest_exact_type() if self._cuda else None

    def run(self, pixels: Pixels) -> Probabilities:
        """See :class:`worker_models.runtimes.Runtime`."""
        try:
            return cast("Probabilities", self._forward(pixels, self.autocast).cpu().numpy())
        except RuntimeError as error:
            raise InferenceFailed(f"torch: {error}") from error

    def close(self) -> None:
        """See :class:`worker_models.runtimes.Runtime`."""
        del self._network
        if self._cuda:
            torch.cuda.empty_cache()

    def _forward(self, pixels: Pixels, dtype: torch.dtype | None) -> torch.Tensor:
        precision = torch.autocast("cuda", dtype=dtype) if dtype else nullcontext()
        with torch.inference_mode(), precision:
            return self._network(self._upload(pixels)).float()  # type: ignore[no-any-return]

    def _upload(self, pixels: Pixels) -> torch.Tensor:
        images = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        return images.pin_memory().to(self.device, non_blocking=True) if self._cuda else images

    def _fastest_exact_type(self) -> torch.dtype | None:
        """The first of bfloat16 and float16 that keeps every top class of a probe, else None: full precision."""
        probe = _probe(self._network)
        exact = self._forward(probe, None)
        for dtype in (torch.bfloat16, torch.float16):
            rounded = self._forward(probe, dtype)
            same = bool((rounded.argmax(1) == exact.argmax(1)).all())
            if same and float((rounded - exact).abs().max()) <= MAX_DIFFERENCE:
                return dtype
        return None


def _probe(network: Folded) -> Pixels:
    """Eight seeded images of smooth colours: closer to photographs than noise, and the same on every machine."""
    coarse = torch.rand((8, 3, 7, 7), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=network.size, mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
