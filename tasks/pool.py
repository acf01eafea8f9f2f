"""The worker's task pool: Celery's threads, but for deliveries, which go through the stages together.

Celery runs a task from its beginning to its end in one place. Here the work of a delivery is done by
:mod:`tasks.stages` before its task runs, and the task only says how that went. So everything that Celery does around a
task stays Celery's: events, the number of tries, retries, acknowledgements.
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

from tasks.envelope import TASK
from tasks.inference import InferenceTask, delivery_of
from tasks.stages import Stages, Work

log = logging.getLogger(__name__)

Callback = Callable[..., Any]


class TaskPool(thread.TaskPool):
    """``--pool threads`` of an Inferlane worker; ``stages`` is set once the model is loaded."""

    stages: Stages | None = None

    def on_apply(
        self, target: Callback, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None,
        callback: Callback | None = None, accept_callback: Callback | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Perform a delivery in the stages; run any other task as Celery does."""
        if self.stages is None or callback is None or args is None or args[0] != TASK:
            return super().on_apply(target, args, kwargs, callback, accept_callback, **options)
        began = time.monotonic()
        if accept_callback is not None:
            accept_callback(os.getpid(), began)
        request = args[2]
        delivery = delivery_of(request["args"][0], request["properties"], request["delivery_info"], request["retries"])
        self.stages.put(Work(delivery, partial(_run, target, args, callback, began)))
        return None

    def on_stop(self) -> None:
        """What has been taken ends before the worker does."""
        if self.stages is not None:
            self.stages.close()
        super().on_stop()


def _run(target: Callback, args: tuple[Any, ...], callback: Callback, began: float, work: Work) -> None:
    """Let Celery run the task of a delivery that has been performed; its time counts from when it was taken."""

    def ended(result: tuple[int, Any, float]) -> None:
        failed, value, _ = result
        callback((failed, value, time.monotonic() - began))

    performed = InferenceTask.performed
    performed[work.delivery.tag] = work
    try:
        apply_target(target, args, callback=ended)
    except Exception:
        log.exception("Celery could not end the task of a delivery")
    finally:
        performed.pop(work.delivery.tag, None)
