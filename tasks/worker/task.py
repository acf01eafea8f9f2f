"""The one Celery task, a delivery of one or more requests, and the pool that performs it.

The pool hands a delivery to :mod:`tasks.worker.pipeline`; its task runs afterwards and only reports how that went. So
events, retries and acknowledgements stay Celery's. The outcome of a request is in its record: the task has no result.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.concurrency import thread
from celery.concurrency.base import apply_target
from celery.exceptions import Reject

from common.settings import get_settings
from tasks.celery import app
from tasks.errors import TransientFailure
from tasks.protocol.envelope import TASK
from tasks.worker.delivery import Delivery
from tasks.worker.pipeline import Pipeline
from tasks.worker.retries import RetriedTask

log = logging.getLogger(__name__)

_settings = get_settings()

Callback = Callable[..., Any]


@app.task(
    base=RetriedTask,
    bind=True,
    name=TASK,
    ignore_result=True,
    backend=app.backend,  # or Celery looks it up in a thread's variables for each task, twice
    acks_late=True,
    autoretry_for=(TransientFailure,),
    max_retries=_settings.max_retries,
    retry_backoff=_settings.retry_backoff,
    retry_backoff_max=_settings.retry_backoff_max,
    retry_jitter=_settings.retry_jitter,
)
def infer(self: Any, ids: list[str]) -> None:
    """Report how a delivery went that :class:`TaskPool` has performed; a fault gives it back."""
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
        request = args[2]
        delivery = Delivery(
            ids=request["args"][0],
            tag=request["properties"]["delivery_tag"],
            lane=request["delivery_info"]["routing_key"],
            retries=request["retries"],
            last_try=request["retries"] >= infer.max_retries,
            ended=partial(self._run, target, args, callback, began),
        )
        self.pipeline.put(delivery)
        return None

    def on_stop(self) -> None:
        """Finish the deliveries in hand."""
        if self.pipeline is not None:
            self.pipeline.close()
        super().on_stop()

    def _run(
        self, target: Callback, args: tuple[Any, ...], callback: Callback, began: float, delivery: Delivery
    ) -> None:
        """Let Celery run the task of a performed delivery; its run time begins with the take."""

        def ended(result: tuple[int, Any, float]) -> None:
            failed, value, _ = result
            callback((failed, value, time.monotonic() - began))

        name, task_id, request, *body = args
        performed = {**request, "delivery": delivery, "pipeline": self.pipeline}  # the task's `self.request`
        try:
            apply_target(target, (name, task_id, performed, *body), callback=ended)
        except Exception:
            log.exception("Celery could not end the task of a delivery")
