"""From a model's answer or exception to an outcome that can be stored and shown."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.protocol.requests import LISTED, Attempt, AttemptEnd, State
from worker_models.errors import InferenceFailed, InvalidInput, ModelError

if TYPE_CHECKING:
    from worker_models.batcher import BatchItem
    from worker_models.model import Model

log = logging.getLogger(__name__)

T = TypeVar("T")
#: Longest stored error message of a model, in characters.
MESSAGE = 2000
#: The limits of ``/v2``: an index is a 64-bit integer, a confidence a 32-bit float.
INDEXES = range(-(2**63), 2**63)
LARGEST_FLOAT = 3.4028234663852886e38


def of_model(call: Callable[..., T], *args: Any) -> T:
    """The result of a model's call.

    Raises:
        ModelError: the model's own, or one that wraps any other exception: ``SystemExit`` must not end a thread.
    """
    try:
        return call(*args)
    except ModelError:
        raise
    except BaseException as error:
        raise InferenceFailed(_message(error)) from error


def succeeded(model: Model, predictions: Sequence[Mapping[str, Any]], decode: float, item: BatchItem) -> AttemptEnd:
    """The outcome of a successful attempt; ``item`` has the times and sizes of its forward pass, times in seconds.

    Raises:
        InferenceFailed: the predictions do not fit every form of the answer.
    """
    told = {
        "model": model.name, "weights": model.weights, "runtime": model.runtime,
        "precision": getattr(model, "precision", None), "decode": round(decode, 6), "infer": round(item.seconds, 6),
    }  # fmt: skip
    try:
        for prediction in predictions:
            _check(prediction)
        first, others = predictions[:LISTED], predictions[LISTED:]
        result, more = _json({"predictions": first, **told}), _json(others) if others else ""
    except InferenceFailed:
        raise
    except Exception as error:
        raise InferenceFailed(f"the predictions of {model.name} cannot be written: {_message(error)}") from error
    return AttemptEnd(
        state=State.SUCCEEDED, result=result, more=more, decode=decode, infer=item.seconds, batch=item.size,
        passes=item.passes,
    )  # fmt: skip


def _message(error: BaseException, *, named: bool = True) -> str:
    try:
        return (f"{type(error).__name__}: {error}" if named else str(error))[:MESSAGE]
    except Exception:  # noqa: BLE001 - a model's error may fail to say what it is
        return type(error).__name__


_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _check(prediction: Mapping[str, Any]) -> None:
    label, index, confidence = prediction["class"], prediction["index"], prediction["confidence"]
    if not isinstance(label, str) or not isinstance(index, int) or not isinstance(confidence, int | float):
        raise InferenceFailed("a prediction needs a class (text), an index (integer) and a confidence (number)")
    label.encode()  # text may have lone surrogates
    if index not in INDEXES:
        raise InferenceFailed(f"the model returned an index of {index}: it must fit into 64 bits")
    if not math.isfinite(confidence) or abs(confidence) > LARGEST_FLOAT:
        raise InferenceFailed(f"the model returned a confidence of {confidence}: it must be finite")


def failed(attempt: Attempt, error: Exception, decode: float) -> AttemptEnd:
    """The outcome of a final failure."""
    if error.__cause__ is not None or not isinstance(error, ModelError):
        log.error("request %s failed", attempt.id, exc_info=error)
    retried = not isinstance(error, InvalidInput)
    return AttemptEnd(state=State.FAILED, result=json.dumps(described(error)), dead_letter=retried, decode=decode)


def described(error: Exception) -> dict[str, Any]:
    """The stored form of an error; one of neither the model nor the project is internal."""
    known = isinstance(error, ModelError)
    return {
        "code": error.code if isinstance(error, ModelError) else "internal_error",
        "message": _message(error, named=not known),
        "retryable": not isinstance(error, InvalidInput),
    }
