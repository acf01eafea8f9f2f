"""The one Celery task, a delivery of one or more requests, and the pool that performs it.

Celery runs a task from its beginning to its end in one place. Here :mod:`tasks.worker.pipeline` performs a delivery
before its task runs, and the task only says how that went. So all that Celery does around a task stays its own: events,
the number of tries, retries, acknowledgements. What became of a request is in its record, so the task has no result.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.concurrency import thread
from celery.concurrency.base import apply_target
from celery.exceptions import Reject

from common.settings import get_settings
from tasks.celery import app
from tasks.errors import TransientFailure
from tasks.protocol.envelope import TASK
from tasks.worker.delivery import Delivery
from tasks.worker.retries import RetriedTask

if TYPE_CHECKING:
    from tasks.worker.pipeline import Pipeline

log = logging.getLogger(__name__)

_settings = get_settings()

Callback = Callable[..., Any]


@app.task(
    base=RetriedTask,
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
    """Say how the delivery went that :class:`TaskPool` has performed.

    Raises:
        TransientFailure: some requests want another attempt; Celery's autoretry decides when.
        Reject: something outside the requests went wrong, Redis for too long or a bug; the delivery is given back.
    """
    try:
        self.request.delivery.check()
    except TransientFailure:
        raise
    except Exception as error:
        log.exception("a delivery of %d request(s) could not be performed; it is given back", len(ids))
        raise Reject(error, requeue=True) from error


class TaskPool(thread.TaskPool):
    """``--pool threads`` of an Inferlane worker; ``pipeline`` is set once the model is loaded."""

    pipeline: Pipeline | None = None

    def on_apply(
        self, target: Callback, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None,
        callback: Callback | None = None, accept_callback: Callback | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Perform a delivery in the pipeline; run any other task as Celery does."""
        if self.pipeline is None or callback is None or args is None or args[0] != TASK:
            return super().on_apply(target, args, kwargs, callback, accept_callback, **options)
        began = time.monotonic()
        if accept_callback is not None:
            accept_callback(os.getpid(), began)
        self.pipeline.put(_delivery(args[2], partial(self._run, target, args, callback, began)))
        return None

    def on_stop(self) -> None:
        """What has been taken ends before the worker does."""
        if self.pipeline is not None:
            self.pipeline.close()
        super().on_stop()

    def _run(
        self, target: Callback, args: tuple[Any, ...], callback: Callback, began: float, delivery: Delivery
    ) -> None:
        """Let Celery run the task of a delivery that has been performed; its time counts from when it was taken."""

        def ended(result: tuple[int, Any, float]) -> None:
            failed, value, _ = result
            callback((failed, value, time.monotonic() - began))

        name, task_id, request, *body = args
        performed = {**request, "delivery": delivery, "pipeline": self.pipeline}  # the task's `self.request`
        try:
            apply_target(target, (name, task_id, performed, *body), callback=ended)
        except Exception:
            log.exception("Celery could not end the task of a delivery")


def _delivery(request: Mapping[str, Any], ended: Callable[[Delivery], object]) -> Delivery:
    """The delivery that a task is about, from what Celery knows of the message."""
    retries = request["retries"]
    return Delivery(
        ids=request["args"][0],
        tag=request["properties"]["delivery_tag"],
        lane=request["delivery_info"]["routing_key"],
        retries=retries,
        last_try=retries >= infer.max_retries,
        ended=ended,
    )
