"""The errors of the client, one tree, which docs/client.md draws.

Each class takes one message. ``request_id`` names the request, even if it is unknown whether the API accepted it;
``client.job(error.request_id)`` follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar


class ClientError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        code: the kind for programs; for a :class:`Problem` the API's own.
        retryable: whether the same call may succeed later.
        retry_after: seconds after which it may; None when unknown.
        request_id: the request it is about, where it is about one.
    """

    code = "client_error"
    retryable = False
    retry_after: float | None = None
    request_id: str | None = None


class ImageUnreadable(ClientError):
    """The image could not be read; nothing was sent."""

    code = "image_unreadable"


class Unreachable(ClientError):
    """Nothing answers at the address, for as long as ``Retries.patience`` lasts."""

    code = "unreachable"
    retryable = True


class Timeout(ClientError):
    """The call exceeded its timeout; the request goes on under its ``request_id``."""

    code = "timeout"
    retryable = True


class UnexpectedAnswer(ClientError):
    """The answer does not come from an Inferlane API."""

    code = "unexpected_answer"


class Problem(ClientError):
    """The API answered with an error.

    Attributes:
        status: the HTTP status; 0 when it is the end of a request and not the answer to a call.
        document: the whole problem document.
        by_code, by_status: the class for an error of the API.
    """

    code = "problem"
    status = 0
    document: Mapping[str, Any] = {}
    by_code: ClassVar[dict[str, type[Problem]]] = {}
    by_status: ClassVar[dict[int, type[Problem]]] = {}

    def __init_subclass__(cls, codes: Iterable[str] = (), statuses: Iterable[int] = ()) -> None:
        """Make ``cls`` the error of these codes of the API and, for any other code, of these statuses."""
        Problem.by_code |= dict.fromkeys(codes, cls)
        Problem.by_status |= dict.fromkeys(statuses, cls)


class BadRequest(Problem):
    """The call is wrong: sending it again cannot help (400, 413, 415, 422)."""


class InvalidImage(
    BadRequest,
    codes=(
        "unsupported_image", "truncated_image", "too_many_pixels", "image_too_large", "empty_image", "side_too_long",
        "too_many_scans", "decode_too_large", "invalid_input", "invalid_base64",
    ),
):  # fmt: skip
    """The image is no image, truncated or too large."""


class UnknownModel(BadRequest, codes=["unknown_model"]):
    """No such model; the message names the existing ones."""


class IdempotencyConflict(BadRequest, codes=["idempotency_conflict"]):
    """The request_id or key belongs to another image or other parameters."""


class AccessDenied(Problem, statuses=[401, 403]):
    """The API key is missing, unknown or not allowed to do this."""


class NotFound(Problem, statuses=[404]):
    """There is no such request, batch, lane or worker."""


class Gone(NotFound, codes=["purged_request"], statuses=[410]):
    """The record has expired."""


class AlreadyFinished(Problem, codes=["already_finished"]):
    """The request has ended."""


class TryLater(Problem):
    """The same call may succeed later; ``retry_after`` says when."""

    retryable = True


class RateLimited(TryLater, codes=["rate_limited"], statuses=[429]):
    """Too many calls, open requests or images of this API key."""


class Refused(TryLater, codes=["lane_full", "deadline_hopeless", "refused"]):
    """The lane is full, or the deadline cannot be met; nothing was stored (503)."""


class Unavailable(TryLater, codes=["broker_unavailable", "too_many_waiters"], statuses=[502, 503, 504]):
    """The API or its broker is not up."""


class ServerError(Problem, codes=["internal_error"]):
    """The API failed (500)."""


class RequestEnded(Problem):
    """The request was accepted and ended without an answer."""


class Failed(RequestEnded):
    """The model failed on it."""


class Poison(Failed, codes=["poison"]):
    """It was given up because it kept killing its workers."""


class Canceled(RequestEnded, codes=["canceled"]):
    """It was canceled."""


class Expired(RequestEnded, codes=["expired"]):
    """Its deadline passed first."""


def problem(status: int, document: Mapping[str, Any], retry_after: float | None = None) -> Problem:
    """The error for an answer of ``status`` with this problem document.

    A document with the member ``state`` tells how an accepted request ended: asking again would only repeat it.
    """
    code = str(document.get("code", ""))
    message = str(document.get("detail") or document.get("title") or f"HTTP status {status}")
    names = [f"{item.get('name')} {item.get('detail')}" for item in document.get("errors", ())]
    error = _class(code, status, ended="state" in document)("; ".join([message, *names]))
    error.code, error.status, error.document = code or f"http_{status}", status, document
    error.retryable, error.retry_after = bool(document.get("retryable", error.retryable)), retry_after
    return error


def outcome(state: str, failure: Mapping[str, Any] | None) -> Problem:
    """The error for a request that ended in ``state``, with the ``error`` of its resource."""
    failure = failure or {}
    code = str(failure.get("code") or state)
    error = _class(code if state == "failed" else state, 0, ended=True)(
        str(failure.get("message") or f"The request was {state}.")
    )
    error.code, error.document = code, failure
    error.retryable = bool(failure.get("retryable", False))
    return error


def _class(code: str, status: int, *, ended: bool) -> type[Problem]:
    known = Problem.by_code.get(code)
    if ended:
        return known if known is not None and issubclass(known, RequestEnded | InvalidImage) else Failed
    return known or Problem.by_status.get(status) or (BadRequest if status < 500 else ServerError)
