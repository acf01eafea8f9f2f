"""The torch side of a model: build the network, load its weights, fold the arithmetic of the transform into it.

Only the exporter and the torch runtime import this module; a worker that finds its graph in the cache never does.
"""

from __future__ import annotations

import pickle  # nosec B403 # for the name of an exception; files are read with weights_only
from pathlib import Path

import torch

from worker_models.builders import import_object
from worker_models.errors import WeightsUnavailable
from worker_models.registry import ModelCard, Transform
from worker_models.weights import RANDOM_SEED


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
        UnknownModel: the builder cannot be imported.
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

    With the statistics they are born with, the activations of a deep network vanish: every image gets the same answer,
    and arithmetic on numbers close to zero is slow, so a load test would measure something else.
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
