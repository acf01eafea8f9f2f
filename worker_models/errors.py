"""What can go wrong in a model, in one small tree.

::

    ModelError                  model_error
    ├── InvalidInput            invalid_input         the image's fault: permanent, never retried
    │   ├── UnsupportedImage    unsupported_image     not an image of a known format
    │   ├── TruncatedImage      truncated_image       begins like one, but is cut short or damaged
    │   └── ImageTooLarge       image_too_large       over the limit in bytes or pixels
    ├── UnknownModel            unknown_model         no such name, or a factory that cannot be imported
    ├── WeightsUnavailable      weights_unavailable   no source of weights could be used
    ├── InferenceFailed         inference_failed      the runtime raised: may work when tried again
    └── BatcherClosed           batcher_closed        the worker is stopping: works in another one

Each takes one message, so each survives pickling and Celery's result round trip.
"""

from __future__ import annotations

from typing import ClassVar


class ModelError(Exception):
    """Root of the tree. ``code`` is stable and meant for programs; the message is meant for people."""

    code: ClassVar[str] = "model_error"


class InvalidInput(ModelError):
    """The input can never be answered, however often it is tried."""

    code: ClassVar[str] = "invalid_input"


class UnsupportedImage(InvalidInput):
    """The bytes are no image of a format this project decodes."""

    code: ClassVar[str] = "unsupported_image"


class TruncatedImage(InvalidInput):
    """The bytes begin like an image and then end early or make no sense."""

    code: ClassVar[str] = "truncated_image"


class ImageTooLarge(InvalidInput):
    """The image is over the limit in bytes or in pixels."""

    code: ClassVar[str] = "image_too_large"


class UnknownModel(ModelError):
    """No model has this name."""

    code: ClassVar[str] = "unknown_model"


class WeightsUnavailable(ModelError):
    """No source has usable weights for this model."""

    code: ClassVar[str] = "weights_unavailable"


class InferenceFailed(ModelError):
    """The runtime failed on this input; trying again may help."""

    code: ClassVar[str] = "inference_failed"


class BatcherClosed(ModelError):
    """The batcher accepts nothing any more."""

    code: ClassVar[str] = "batcher_closed"
