"""The names of the classes, read without loading a model."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from worker_models.errors import WeightsUnavailable


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
