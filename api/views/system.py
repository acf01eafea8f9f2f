"""Workers, models, health and totals, shared by several answers."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from api.views.resources import timestamp
from tasks.inspect.health import LATELY, Finding, Readings, status
from tasks.inspect.monitor import Monitor
from tasks.producer.gateway import Gateway
from worker_models.errors import NoSuchModel
from worker_models.registry import describe

STARTED = time.monotonic()


def uptime() -> float:
    """Seconds since this process imported the API."""
    return round(time.monotonic() - STARTED, 3)


def readings(monitor: Monitor, gateway: Gateway) -> Readings:
    """The input of health."""
    workers = monitor.workers()
    return Readings(
        workers=workers, lanes=monitor.lanes(workers), silent=monitor.silent(), refusal=gateway.refusal(),
        image_bytes=gateway.image_bytes(), ends=monitor.ends(LATELY),
    )  # fmt: skip


def health(findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings, status and reasons."""
    return {
        "status": status(findings),
        "reasons": [finding.detail for finding in findings],
        "findings": [asdict(finding) for finding in findings],
    }


def quota(read: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An owner's quota, if it has one."""
    return {**read, "resets": timestamp(read["resets"])} if read else None


def totals(ledger: Mapping[str, Mapping[str, int]]) -> Counter[str]:
    """The ledger summed over all lanes."""
    summed: Counter[str] = Counter()
    for states in ledger.values():
        summed.update(states)
    return summed


def stats(workers: int, total: Mapping[str, int], window: Mapping[str, float]) -> dict[str, Any]:
    """The numbers of the first version of this API, by its names."""
    return {
        "workers_active": workers,
        "requests_total": total.get("accepted", 0),
        "requests_success": total.get("succeeded", 0),
        "requests_failed": total.get("failed", 0) + total.get("expired", 0),
        "avg_latency": window.get("mean"),
    }


def worker_row(worker: Mapping[str, Any], *, silent: bool = False) -> dict[str, Any]:
    """A worker's resource; ``silent`` when its lease has expired."""
    shown = {name: value for name, value in worker.items() if name not in {"boot", "cpu_mask"}}
    share = round(int(worker["in_flight"]) / max(1, int(worker["concurrency"])), 4)
    return {
        **shown,
        "url": "",
        "status": "unhealthy" if silent else "healthy",
        "state": "silent" if silent else worker["state"],
        "load": min(1.0, share),  # a worker may hold more than it runs: chunks of a batch
        "errors": worker["failed"],
        "avg_latency": worker.get("service_seconds") or None,
        "started_at": timestamp(worker.get("started_at")),
        "last_heartbeat": timestamp(worker["last_heartbeat"]),
    }


def model_rows(configured: Sequence[str], workers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The configured models, then those of live workers only."""
    names = dict.fromkeys([*configured, *sorted(str(worker["model"]) for worker in workers)])
    return [model_row(name, workers) for name in names]


def model_row(name: str, workers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One model: its card, if the registry has one, and its live workers."""
    live = [worker for worker in workers if worker["model"] == name]
    return {
        "name": name,
        **_card(name),
        "weights": sorted({str(worker["weights"]) for worker in live}),
        "runtimes": sorted({str(worker["runtime"]) for worker in live}),
        "live_workers": len(live),
        "available": bool(live),
    }


def _card(name: str) -> dict[str, Any]:
    """The registry's entry; a custom model (``--model package.module:factory``) has none."""
    try:
        card = describe(name)
    except NoSuchModel:
        return {"version": None, "architecture": None, "input_size": None, "labels": None}
    return {
        "version": card.version,
        "architecture": card.architecture,
        "input_size": card.input_size,
        "labels": card.classes,
    }
