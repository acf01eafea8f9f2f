"""Make ``import torchvision`` work beside a CPU-only torch.

The published torchvision is built against CUDA torch. Beside a CPU-only torch its binary does not load, and its Python
code fails at import because it attaches metadata to two missing operators. Defining their schemas is enough:
classification models never call them.
"""

from __future__ import annotations

import importlib
from functools import lru_cache

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
