"""Make ``import torchvision`` work beside a CPU-only torch.

The torchvision that package registries serve is built against CUDA torch. Beside a CPU-only torch its binary does not
load, so its operators do not exist, and its Python code fails at import because it attaches metadata to two of them.
Defining their schemas first is enough: classification models never call them. Where the operators do exist this does
nothing.
"""

from __future__ import annotations

import importlib
from functools import lru_cache

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@lru_cache(maxsize=1)
def allow_torchvision() -> None:
    """Import torchvision, with stand-ins for its missing operators where they are missing.

    Raises:
        ImportError: torch or torchvision is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _define_operators()
        importlib.import_module("torchvision")


def _define_operators() -> None:
    import torch

    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", _SCHEMA)
