"""Errors of models, as one tree.

::

    ModelError                  model_error
    ├── InvalidInput            invalid_input         the image's fault: permanent, never retried
    │   ├── EmptyImage          empty_image           no bytes
    │   ├── UnsupportedImage    unsupported_image     not an image of a known format, or a variant that is not decoded
    │   ├── TruncatedImage      truncated_image       truncated or damaged
    │   └── ImageTooLarge       image_too_large       over the limit in bytes
    │       ├── TooManyPixels   too_many_pixels       over the limit in pixels
    │       ├── SideTooLong     side_too_long         over the limit in width or height
    │       ├── TooManyScans    too_many_scans        a JPEG with too many scans
    │       └── DecodeTooLarge  decode_too_large      needs more memory than DECODE_MEMORY
    ├── UnknownModel            unknown_model         unknown name, or a factory that cannot be imported
    ├── WeightsUnavailable      weights_unavailable   no source has usable weights
    ├── InferenceFailed         inference_failed      the runtime raised; a retry may succeed
    └── BatcherClosed           batcher_closed        the worker is stopping; another one can run it

Each takes one message, so each survives pickling and Celery's result round trip.
"""

from __future__ import annotations

from typing import ClassVar


class ModelError(Exception):
    """Root of the tree. ``code`` is stable and meant for programs; the message is meant for people."""

    code: ClassVar[str] = "model_error"


class InvalidInput(ModelError):
    """The input is at fault: never retried."""

    code: ClassVar[str] = "invalid_input"


class EmptyImage(InvalidInput):
    """There are no bytes."""

    code: ClassVar[str] = "empty_image"


class UnsupportedImage(InvalidInput):
    """The bytes are not an image of a supported format and variant."""

    code: ClassVar[str] = "unsupported_image"


class TruncatedImage(InvalidInput):
    """The image ends early or is damaged."""

    code: ClassVar[str] = "truncated_image"


class ImageTooLarge(InvalidInput):
    """The image is over a limit; this class itself means the limit in bytes."""

    code: ClassVar[str] = "image_too_large"


class TooManyPixels(ImageTooLarge):
    """The image has more than MAX_IMAGE_PIXELS."""

    code: ClassVar[str] = "too_many_pixels"


class SideTooLong(ImageTooLarge):
    """A side of the image is longer than MAX_IMAGE_SIDE."""

    code: ClassVar[str] = "side_too_long"


class TooManyScans(ImageTooLarge):
    """The JPEG has so many scans that decoding would take too long."""

    code: ClassVar[str] = "too_many_scans"


class DecodeTooLarge(ImageTooLarge):
    """Decoding needs more memory than DECODE_MEMORY."""

    code: ClassVar[str] = "decode_too_large"


class UnknownModel(ModelError):
    """No model has this name."""

    code: ClassVar[str] = "unknown_model"


class WeightsUnavailable(ModelError):
    """No source has usable weights for this model."""

    code: ClassVar[str] = "weights_unavailable"


class InferenceFailed(ModelError):
    """The runtime failed on this input; a retry may succeed."""

    code: ClassVar[str] = "inference_failed"


class BatcherClosed(ModelError):
    """The batcher has been closed."""

    code: ClassVar[str] = "batcher_closed"
