"""Networks that do not come from torchvision. A builder takes ``num_classes`` and returns a ``torch.nn.Module``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def efficientnet_lite0(num_classes: int = 1000) -> torch.nn.Module:
    """EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, made for small devices."""
    from efficientnet_lite_pytorch import EfficientNet

    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network
