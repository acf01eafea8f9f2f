"""One call with its retries.

Calls may be sent twice: reads are harmless, and calls that create something carry an id chosen here (``request_id`` or
``Idempotency-Key``), under which the API runs them once. Operators' orders have none; they use ``retries.ONCE``.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import httpx

from inferlane import errors
from inferlane.connection import Call, Connection
from inferlane.errors import ClientError, Timeout, UnexpectedAnswer
from inferlane.retries import CallLimits, retry_after

log = logging.getLogger("inferlane")

ANSWER_TIMEOUT = 15.0  # seconds of silence beyond the requested wait, after which the API counts as hung
#: Refusals that waiting does not change.
FINAL = frozenset({"deadline_hopeless"})
_NO_PROBLEM = frozenset({502, 503, 504})  # of a proxy whose API is not up


async def exchange(
    connection: Connection, make: Callable[[], Call], limits: CallLimits, accept: Collection[int] = (),
    final: Collection[str] = FINAL,
) -> httpx.Response:  # fmt: skip
    """The API's response to the call that ``make`` builds, anew for each attempt, because deadlines shrink.

    ``accept`` are statuses of 400 and above that are no errors here; ``final`` codes of errors that are not retried,
    though the call might succeed later.

    Raises:
        ClientError: the error of the last attempt.
    """
    attempt, outage_began = 0, None
    while True:
        if limits.left() <= 0:
            raise Timeout("there was no time left for the call")
        found = await _attempt(connection, make(), limits, accept)
        if isinstance(found, httpx.Response):
            return found
        # A refusal is an answer, so it ends an outage.
        refused = isinstance(found, errors.Refused | errors.RateLimited)
        outage_began = None if refused else outage_began or time.monotonic()
        pause = limits.retries.pause(attempt, found.retry_after)
        if found.code in final or not _again(found, outage_began, pause, limits):
            raise found
        attempt += 1
        if attempt == limits.retries.attempts:
            raise found
        log.info("trying again for %g s: %s", limits.retries.patience, found)
        await connection.pause(pause)


async def _attempt(
    connection: Connection, call: Call, limits: CallLimits, accept: Collection[int]
) -> httpx.Response | ClientError:
    """Send once."""
    try:
        answer = await connection.send(call, min(call.wait + ANSWER_TIMEOUT, limits.left()))
    except httpx.RequestError as lost:
        return _lost(lost, limits)
    return answer if answer.status_code in accept else judge(answer) or answer


def _again(error: ClientError, outage_began: float | None, pause: float, limits: CallLimits) -> bool:
    """Whether another attempt makes sense and there is time for it."""
    worth_it = isinstance(error, errors.TryLater | errors.Unreachable) and error.retryable
    if not worth_it or pause >= limits.left():
        return False
    return outage_began is None or time.monotonic() + pause <= outage_began + limits.retries.patience


def _lost(lost: httpx.RequestError, limits: CallLimits) -> ClientError:
    """The error for a call that got no whole answer."""
    if isinstance(lost, httpx.TimeoutException) and not isinstance(lost, httpx.ConnectTimeout) and not limits.left():
        return Timeout("no answer in time")
    if not isinstance(lost, httpx.TransportError):
        return UnexpectedAnswer(f"the answer cannot be read: {lost}")
    where = f"{lost.request.url.scheme}://{lost.request.url.netloc.decode()}"
    return errors.Unreachable(f"nothing answers at {where}: {lost or type(lost).__name__}")


def judge(answer: httpx.Response) -> ClientError | None:
    """The error that ``answer`` stands for; None when it is a success."""
    status = answer.status_code
    if answer.is_success or status == 304:
        return None
    after = retry_after(answer.headers.get("Retry-After"))
    is_problem = answer.headers.get("Content-Type", "").startswith("application/problem+json")
    if is_problem and (document := _object(answer)) is not None:
        return errors.problem(status, document, after)
    if status in _NO_PROBLEM:
        error = errors.Unavailable(f"{status} {answer.reason_phrase} from {answer.url.host}")
        error.status, error.retry_after = status, after
        return error
    return UnexpectedAnswer(f"{status} from {answer.url}, and not a problem document: {answer.text[:200]!r}")


def _object(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        document = answer.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def document_of(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object in ``answer``; raises UnexpectedAnswer if it has none."""
    document = _object(answer)
    if document is None:
        raise UnexpectedAnswer(f"{answer.url} answered {answer.status_code} without a JSON object")
    return document
