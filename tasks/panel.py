"""What ``celery -A tasks control`` can order besides Celery's own commands.

The command line looks commands up in its own process, so :mod:`tasks.celery` imports this; the orders run in workers.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command


@control_command(args=[("mode", str), ("seconds", float)], signature="<mode> [seconds]")
def chaos(state: Any, mode: str = "off", seconds: float = 1.0, **_: Any) -> dict[str, str]:
    """Switch a fault on in this worker: ``celery -A tasks control -d resnet18-1@host chaos crash``."""
    faults = state.consumer.controller.chaos
    if faults is None:
        return {"error": "chaos needs CHAOS_ENABLED=1"}
    faults.set(mode, seconds=seconds, rate=seconds)
    return {"ok": mode}
