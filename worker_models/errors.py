"""What can go wrong in a model, in one small tree.

::

    ModelError                  model_error
    ├── InvalidInput            invalid_input         the image's fault: permanent, never retried
    │   ├── EmptyImage          empty_image           no bytes
    │   ├── UnsupportedImage    unsupported_image     not an image of a known format, or a variant that is not decoded
    │   ├── TruncatedImage      truncated_image       begins like one, but is cut short or damaged
    │   └── ImageTooLarge       image_too_large       over the limit in bytes
    │       ├── TooManyPixels   too_many_pixels       over the limit in pixels
    │       ├── SideTooLong     side_too_long         over the limit in width or height
    │       ├── TooManyScans    too_many_scans        a JPEG that would be gone over too often
    │       └── DecodeTooLarge  decode_too_large      needs more memory than a worker may decode with
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


class EmptyImage(InvalidInput):
    """There are no bytes."""

    code: ClassVar[str] = "empty_image"


class UnsupportedImage(InvalidInput):
    """The bytes are no image of a format, or of a variant of one, that this project decodes."""

    code: ClassVar[str] = "unsupported_image"


class TruncatedImage(InvalidInput):
    """The bytes begin like an image and then end early or make no sense."""

    code: ClassVar[str] = "truncated_image"


class ImageTooLarge(InvalidInput):
    """The image is over a limit; this class itself means the limit in bytes."""

    code: ClassVar[str] = "image_too_large"


class TooManyPixels(ImageTooLarge):
    """The image has more pixels than are decoded."""

    code: ClassVar[str] = "too_many_pixels"


class SideTooLong(ImageTooLarge):
    """The image is wider or higher than is decoded."""

    code: ClassVar[str] = "side_too_long"


class TooManyScans(ImageTooLarge):
    """The JPEG comes in so many scans that decoding it would take too long."""

    code: ClassVar[str] = "too_many_scans"


class DecodeTooLarge(ImageTooLarge):
    """Decoding the image needs more memory than a worker's decoders may take."""

    code: ClassVar[str] = "decode_too_large"


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
