"""Errors of models. Each takes one message, so each survives pickling and Celery's result round trip."""


class ModelError(Exception):
    """Base of all errors of models. ``code`` is stable and for programs; the message is for people."""

    code = "model_error"


class InvalidInput(ModelError):
    """The input is invalid: never retried."""

    code = "invalid_input"


class EmptyImage(InvalidInput):
    """The image has no bytes."""

    code = "empty_image"


class UnsupportedImage(InvalidInput):
    """The bytes are not an image of a supported format and variant."""

    code = "unsupported_image"


class TruncatedImage(InvalidInput):
    """The image ends early or is damaged."""

    code = "truncated_image"


class ImageTooLarge(InvalidInput):
    """The image is over a limit; this class itself means the limit in bytes."""

    code = "image_too_large"


class TooManyPixels(ImageTooLarge):
    """The image has more than MAX_IMAGE_PIXELS."""

    code = "too_many_pixels"


class SideTooLong(ImageTooLarge):
    """A side of the image is longer than MAX_IMAGE_SIDE."""

    code = "side_too_long"


class TooManyScans(ImageTooLarge):
    """The JPEG has so many scans that decoding would take too long."""

    code = "too_many_scans"


class DecodeTooLarge(ImageTooLarge):
    """Decoding needs more memory than DECODE_MEMORY."""

    code = "decode_too_large"


class NoSuchModel(ModelError):
    """No model has this name, or its factory cannot be imported."""

    code = "unknown_model"


class WeightsUnavailable(ModelError):
    """No source has usable weights for this model."""

    code = "weights_unavailable"


class InferenceFailed(ModelError):
    """The runtime failed on this input; a retry may succeed."""

    code = "inference_failed"


class BatcherClosed(ModelError):
    """The worker is stopping; another one can run the request."""

    code = "batcher_closed"
