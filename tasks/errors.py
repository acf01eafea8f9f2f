"""Errors of requests, as one tree.

Each class takes one message; ``code`` and ``retryable`` belong to the class. They survive pickling and Celery's
round trip because no ``__init__`` has a second positional argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class TaskError(Exception):
    """Base of every error that this package raises on purpose."""

    code = "task_error"
    retryable = False
    #: Seconds after which the same call may succeed; None when unknown.
    retry_after: float | None = None
    #: Seconds for which the same call would get this error again, whatever its image.
    stands: float = 0.0
    #: Further members of the problem document.
    members: Mapping[str, Any] = {}

    def after(self, seconds: float | None, **members: Any) -> Self:
        """This error, with ``retry_after`` set to ``seconds``, and with these members."""
        self.retry_after, self.members = seconds, members
        return self


class UnknownRequest(TaskError):
    """No request has this id."""

    code = "unknown_request"


class PurgedRequest(TaskError):
    """The request existed; its record has outlived RESULT_TTL."""

    code = "purged_request"


class HasEnded(TaskError):
    """The request has ended, so it cannot be canceled."""

    code = "already_finished"


class IdReused(TaskError):
    """The id was used before with another body."""

    code = "idempotency_conflict"


class UnsupportedModel(TaskError):
    """No model of this name is configured or served."""

    code = "unknown_model"
    stands = 0.5


class TooManyWaiters(TaskError):
    """MAX_WAITERS callers wait in this process; the request itself goes on."""

    code = "too_many_waiters"
    retryable = True


class NotAccepted(TaskError):
    """Not accepted, and nothing stored; ``retry_after`` says when to try again."""

    code = "refused"
    retryable = True


class LaneFull(NotAccepted):
    """The model's lanes have no room for this priority."""

    code = "lane_full"


class TooManyOpen(NotAccepted):
    """The owner has as many open requests as its cap allows."""

    code = "too_many_open"


class QuotaExceeded(NotAccepted):
    """The owner has used its quota of the month."""

    code = "quota_exceeded"


class DeadlineHopeless(NotAccepted):
    """The expected wait is longer than the deadline the caller gave."""

    code = "deadline_hopeless"


class BrokerUnavailable(TaskError):
    """Redis does not answer or accepts no writes."""

    code = "broker_unavailable"
    retryable = True
    retry_after = 1.0


class UnsupportedServer(BrokerUnavailable):
    """The Redis server cannot hold the queue; the message says why and what to do."""


class Full(BrokerUnavailable):
    """Redis has no memory, or the payload store no room; nothing was stored."""


class TransientFailure(TaskError):
    """Inference failed and another attempt may succeed; Celery's autoretry retries it."""

    code = "transient_failure"
    retryable = True
