"""Builders of networks: how one is imported by name, and those of networks that torchvision does not have.

A builder takes ``num_classes`` and returns a ``torch.nn.Module``.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from worker_models.errors import NoSuchModel

if TYPE_CHECKING:
    import torch


def efficientnet_lite0(num_classes: int = 1000) -> torch.nn.Module:
    """EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, made for small devices."""
    from efficientnet_lite_pytorch import EfficientNet

    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network


def import_object(name: str) -> Any:
    """What ``package.module:attribute`` names: a network's builder, or a model's factory.

    Raises:
        NoSuchModel: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        if module.startswith("torchvision"):
            allow_torchvision()
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise NoSuchModel(f"{name} cannot be imported: {error}") from error


_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@lru_cache(maxsize=1)
def allow_torchvision() -> None:
    """Import torchvision, with stand-ins for its operators where they are missing.

    Raises:
        ImportError: torch or torchvision is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        torch = importlib.import_module("torch")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", _SCHEMA)
        importlib.import_module("torchvision")
