"""The one Celery task: a delivery of one or more requests.

Thin on purpose: :class:`tasks.engine.Engine` performs, mostly in :mod:`tasks.stages` before the task runs, and Celery
retries. Whatever happens to a request is written in its record, so the task has no result.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from celery.exceptions import Reject

from settings import get_settings
from tasks.celery import app
from tasks.engine import Delivery
from tasks.envelope import TASK
from tasks.errors import TransientFailure
from tasks.lanes import urgency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.engine import Engine
    from tasks.stages import Work

log = logging.getLogger(__name__)

_settings = get_settings()


class InferenceTask(app.Task):  # type: ignore[name-defined]
    """Holds the engine of this worker process; :mod:`tasks.worker` sets it before anything is consumed.

    ``performed`` has the deliveries that have been through the stages and whose task is about to run, by tag.
    """

    engine: Engine
    performed: ClassVar[dict[str, Work]] = {}

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's retry; when the message cannot be published, the delivery is given back."""
        try:
            return super().retry(*args, **kwargs)
        except Reject as rejection:
            raise Reject(rejection, requeue=True) from rejection


@app.task(
    base=InferenceTask,
    bind=True,
    name=TASK,
    ignore_result=True,
    acks_late=True,
    autoretry_for=(TransientFailure,),
    max_retries=_settings.max_retries,
    retry_backoff=_settings.retry_backoff,
    retry_backoff_max=_settings.retry_backoff_max,
    retry_jitter=_settings.retry_jitter,
)
def infer(self: Any, ids: list[str]) -> None:
    """Perform the requests of one delivery, or tell how that went.

    Raises:
        TransientFailure: some want another attempt; Celery's autoretry publishes it.
        Reject: something outside the requests went wrong, Redis for too long or a bug; the delivery is given back.
    """
    request = self.request
    delivery = delivery_of(ids, request.properties, request.delivery_info, request.retries)
    work = self.performed.get(delivery.tag)
    try:
        failures = work.outcome() if work else self.engine.perform(delivery)
    except Exception as error:
        log.exception("a delivery of %d request(s) could not be performed; it is given back", len(ids))
        raise Reject(error, requeue=True) from error
    delivery.check(failures)


def delivery_of(
    ids: Sequence[str], properties: Mapping[str, Any], delivery_info: Mapping[str, Any], retries: int
) -> Delivery:
    """The delivery that a task is about, from what Celery knows of the message."""
    rank = urgency(delivery_info["routing_key"])
    return Delivery(ids, properties["delivery_tag"], rank, last_try=retries >= infer.max_retries)
