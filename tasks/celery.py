"""The Celery application: ``celery -A tasks worker --model resnet18 -n resnet18-1@%h``."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.bin.base import CeleryOption
from celery.worker.control import control_command

import worker_models  # noqa: F401 - the `celery` command has its folder on the path now, and no more when it imports the pool

app = Celery("inferlane")
app.config_from_object("celeryconfig")

app.user_options["worker"] |= {
    CeleryOption(["--model"], help="Model of this worker: a registry name, or package.module:factory."),
    CeleryOption(["--chaos"], default="off", help="Start with a fault (tasks/worker/chaos.py); needs CHAOS_ENABLED=1."),
}


@control_command(args=[("mode", str), ("seconds", float)], signature="<mode> [seconds]")
def chaos(state: Any, mode: str = "off", seconds: float = 1.0, **_: Any) -> dict[str, str]:
    """Switch a fault on in this worker: ``celery -A tasks control -d resnet18-1@host chaos crash``.

    Here, because the command line looks commands up in its own process; the worker runs it.
    """
    faults = state.consumer.controller.chaos
    if faults is None:
        return {"error": "chaos needs CHAOS_ENABLED=1"}
    faults.set(mode, seconds=seconds, rate=seconds)
    return {"ok": mode}
