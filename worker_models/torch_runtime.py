"""The torch side of a model: its network with its weights and the transform's arithmetic, and the runtime for it.

Eager on a CPU; on CUDA channels-last, with the fastest autocast type that keeps the answers. Only the exporter and a
worker on CUDA import this module; a worker that finds its graph in the cache never does.
"""

import pickle  # nosec B403 # for the name of an exception; files are read with weights_only
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import numpy as np
import torch

from common.settings import Settings
from worker_models.builders import import_object
from worker_models.errors import InferenceFailed, WeightsUnavailable
from worker_models.machine import intra_op_threads
from worker_models.registry import ModelCard, Transform
from worker_models.runtimes import Pixels, Probabilities, Runtime
from worker_models.weights import RANDOM_SEED

MAX_DIFFERENCE = 0.02
"""How far a probability may move under autocast before the type is rejected."""


class Folded(torch.nn.Module):
    """A classifier from pixels to probabilities.

    Input: uint8 ``(images, height, width, 3)``. Output: float32 ``(images, classes)``, each row sums to one.
    """

    def __init__(self, network: torch.nn.Module, transform: Transform) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.network = network
        self.size = (transform.crop, transform.crop)
        self.register_buffer("mean", torch.tensor(transform.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(transform.std).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Probabilities of ``pixels``; see the class for shapes."""
        channels_first = pixels.permute(0, 3, 1, 2).float()
        return torch.softmax(self.network((channels_first - self.mean) * self.scale), dim=1)


def build(card: ModelCard, path: Path | None) -> Folded:
    """The network of ``card`` in evaluation mode, with the weights in ``path``, or seeded random ones without a path.

    Raises:
        NoSuchModel: the builder cannot be imported.
        WeightsUnavailable: the file is no state dict, or not of this network.
    """
    builder = import_object(card.builder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = builder(num_classes=card.classes)
        if path is None:
            _calibrate(network, card)
    if path is not None:
        _load(network, path)
    return Folded(network, card.transform).eval()


def _calibrate(network: torch.nn.Module, card: ModelCard) -> None:
    """Give the batch norms of a random network the statistics of noise.

    With their initial statistics the activations of a deep network vanish: every image gets the same answer, and
    arithmetic on numbers close to zero is slow, which would distort a load test.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    if not norms:
        return
    for layer in norms:
        layer.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(4, 3, *card.input_size))


def _load(network: torch.nn.Module, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state.get("state_dict", state))
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError, AttributeError, ValueError) as error:
        summary = " ".join(str(error).split())[:500]
        raise WeightsUnavailable(f"{path} holds no weights of this network: {summary}") from error


class TorchRuntime(Runtime):
    """A network run by torch itself."""

    name = "torch"

    def __init__(self, network: Folded, settings: Settings, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._cuda = self.device.startswith("cuda")
        if not self._cuda:
            torch.set_num_threads(intra_op_threads(settings))
        # Convolutions on tensor cores want the channels last; on a CPU eager torch is faster without.
        layout = torch.channels_last if self._cuda else torch.contiguous_format
        self._network = network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        self.autocast = self._fastest_exact_type() if self._cuda else None
        self.precision = str(self.autocast or torch.float32).removeprefix("torch.")

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
        images = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        if self._cuda:
            images = images.pin_memory().to(self.device, non_blocking=True)
        with torch.inference_mode(), precision:
            return self._network(images).float()  # type: ignore[no-any-return]

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
