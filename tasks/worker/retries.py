"""What a retry waits in: the sorted set ``retries`` in Redis, scored by when it is due. No worker holds it meanwhile.

``lua/retry.lua`` moves the failed requests of a delivery there. The worker whose turn it is to look for dead ones moves
what is due to the head of its lane (``lua/promote.lua``), once it knows that the clock was not set (``lua/step.lua``).
"""

from __future__ import annotations

from typing import Any

from celery.exceptions import Ignore, Reject, Retry

from tasks.celery import app
from tasks.protocol import envelope
from tasks.worker.delivery import Delivery
from tasks.worker.outcomes import described
from tasks.worker.pipeline import Pipeline


class RetriedTask(app.Task):  # type: ignore[name-defined,misc]
    """A task whose retries wait in Redis. Celery's autoretry decides whether and when there is one."""

    def retry(self, *_: Any, exc: Exception | None = None, countdown: int = 0, **__: Any) -> Any:
        """Celery calls it after a transient failure.

        Raises:
            Retry: the failed requests wait for another attempt.
            Ignore: none is retried, for example because all were canceled.
            Reject: they could not be moved; the delivery is given back.
        """
        try:
            waiting = postpone(self.request.pipeline, self.request.delivery, countdown)
        except Exception as error:
            raise Reject(error, requeue=True) from error
        if not waiting:
            raise Ignore
        raise Retry(exc=exc, when=countdown)  # type: ignore[arg-type]  # it is a numbers.Real


def postpone(pipeline: Pipeline, delivery: Delivery, delay: float) -> int:
    """End a delivery and let its failed requests wait ``delay`` seconds for another attempt; how many do."""
    failures = [(attempt, described(error)) for attempt, error in delivery.failures]
    ids = [attempt.id for attempt, _ in failures]
    message = envelope.seal(delivery.lane, ids, retries=delivery.retries + 1)
    boot, unpaid = pipeline.owner.boot, pipeline.owner.unpaid(delivery.tag)
    return pipeline.records.retry(boot, delivery.tag, delivery.lane, message, delay, failures, unpaid)
