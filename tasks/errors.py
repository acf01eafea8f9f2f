"""What can go wrong with a request, as one small tree.

::

    TaskError
    ├── UnknownRequest         no such id                                   unknown_request
    ├── PurgedRequest          the id existed, its record has expired       purged_request
    ├── AlreadyFinished        too late to cancel                           already_finished
    ├── IdempotencyConflict    same id, another body                        idempotency_conflict
    ├── UnsupportedModel       no such model                                unknown_model
    ├── TooManyWaiters         this process's waiting places are taken      too_many_waiters
    ├── Refused                not accepted; come back after `retry_after`
    │   ├── LaneFull           the lane holds all it may                    lane_full
    │   └── DeadlineHopeless   the expected wait exceeds the deadline       deadline_hopeless
    ├── Unavailable            Redis does not answer                        broker_unavailable
    │   ├── UnsupportedServer  it is too old, or a cluster                  broker_unavailable
    │   └── Full               Redis has no memory: nothing was stored
    └── TransientFailure       inference failed in a way that may pass      transient_failure

Each class takes one message; ``code`` and ``retryable`` belong to the class. They survive pickling and Celery's
round trip because no ``__init__`` has a second positional argument.
"""

from __future__ import annotations


class TaskError(Exception):
    """Base of every error that this package raises on purpose."""

    code = "task_error"
    retryable = False
    #: Seconds after which the same call may succeed; None when unknown.
    retry_after: float | None = None

    def after(self, seconds: float | None) -> TaskError:
        """This error, telling the caller to come back in ``seconds``."""
        self.retry_after = seconds
        return self


class UnknownRequest(TaskError):
    """No request has this id."""

    code = "unknown_request"


class PurgedRequest(TaskError):
    """The request existed; its record has outlived RESULT_TTL."""

    code = "purged_request"


class AlreadyFinished(TaskError):
    """The request has ended, so it cannot be canceled."""

    code = "already_finished"


class IdempotencyConflict(TaskError):
    """The id was used before with another body."""

    code = "idempotency_conflict"


class UnsupportedModel(TaskError):
    """No model of this name is configured or served."""

    code = "unknown_model"


class TooManyWaiters(TaskError):
    """Every waiting place of this process is taken; the request itself goes on."""

    code = "too_many_waiters"
    retryable = True


class Refused(TaskError):
    """Not accepted: nothing was stored; ``retry_after`` says when to come back."""

    code = "refused"
    retryable = True


class LaneFull(Refused):
    """The model's lanes hold as many requests as this priority may add to."""

    code = "lane_full"


class DeadlineHopeless(Refused):
    """The expected wait is longer than the deadline the caller gave."""

    code = "deadline_hopeless"


class Unavailable(TaskError):
    """Redis does not answer or cannot take writes."""

    code = "broker_unavailable"
    retryable = True
    retry_after = 1.0


class UnsupportedServer(Unavailable):
    """The server that answers cannot hold the queue; the message says why and what to do."""


class Full(Unavailable):
    """Redis has no memory for it; nothing of it was stored."""


class TransientFailure(TaskError):
    """Inference failed in a way that another attempt may not; Celery's autoretry runs it again."""

    code = "transient_failure"
    retryable = True
