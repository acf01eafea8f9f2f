"""The one Celery task: a delivery of one or more requests.

Thin on purpose: :class:`tasks.engine.Engine` performs, Celery retries. Whatever happens to a request is written in its
record, so the task has no result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from settings import get_settings
from tasks.celery import app
from tasks.envelope import TASK
from tasks.errors import TransientFailure

if TYPE_CHECKING:
    from tasks.engine import Engine

_settings = get_settings()


class InferenceTask(app.Task):  # type: ignore[name-defined]
    """Holds the engine of this worker process; :mod:`tasks.worker` sets it before anything is consumed."""

    engine: Engine


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
    """Perform the requests of one delivery; raises :class:`TransientFailure` for Celery's autoretry."""
    last_try = self.request.retries >= self.max_retries
    self.engine.perform(ids, self.request.properties["delivery_tag"], last_try=last_try)
