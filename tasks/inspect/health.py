"""Health: findings from the readings of Monitor and Gateway. Pure functions.

``/health``, ``/ops/snapshot``, the dashboard's sentence and the client's ``doctor`` all show them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from common.settings import Settings
from tasks.lanes import room
from tasks.protocol import stores

#: A lane counts as behind when its oldest request has waited this many seconds.
BEHIND = 30.0
#: A model is failing when it has answered nothing and failed ENOUGH requests in this many minutes.
LATELY = 5
ENOUGH = 5


class Severity(StrEnum):
    """``problem``: requests are refused, unserved, failing or answered wrongly. ``warning``: they are late."""

    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of the system; ``code`` is for programs."""

    code: str
    severity: Severity
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Input of :func:`judge`, as :class:`tasks.inspect.monitor.Monitor` returns it.

    Attributes:
        refusal: why Redis accepts no writes; empty when it does.
        image_bytes: bytes of images of open requests, and their limit; 0 for none.
        ends: model -> requests it answered, and failed by its own fault, in the last :data:`LATELY` minutes.
    """

    workers: Sequence[Mapping[str, Any]]
    lanes: Sequence[Mapping[str, Any]]
    silent: Sequence[Mapping[str, Any]] = ()
    refusal: str = ""
    image_bytes: tuple[int, int] = (0, 0)
    ends: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def judge(seen: Readings, settings: Settings) -> list[Finding]:
    """Findings, problems first."""
    found = [
        *([outage(f"nothing is accepted: {seen.refusal}")] if seen.refusal else []),
        *_workers(seen, settings),
        *_answers(seen),
        *_failing(seen),
        *_full(seen, settings),
        *_lanes(seen),
    ]
    return sorted(found, key=lambda finding: finding.severity is Severity.WARNING)


def status(findings: Sequence[Finding]) -> str:
    """``unhealthy`` where Redis cannot be used, ``degraded`` where anything else is wrong, ``healthy``."""
    if any(finding.code == "redis" for finding in findings):
        return "unhealthy"
    return "degraded" if findings else "healthy"


def outage(reason: str) -> Finding:
    """Redis cannot be used."""
    return Finding("redis", Severity.PROBLEM, reason, "check that Redis runs, accepts writes and has free memory")


def _workers(seen: Readings, settings: Settings) -> Iterator[Finding]:
    if seen.workers:
        served = {worker["model"] for worker in seen.workers if worker["state"] != "draining"}
        for model in settings.models:
            if model not in served:
                remedy = f"start one (make scale {model}=1), or take {model} out of MODELS"
                yield Finding("no_worker", Severity.PROBLEM, f"no worker serves {model}", remedy)
    else:
        queued = sum(lane["depth"] for lane in seen.lanes)
        waiting = f", {queued} request{'' if queued == 1 else 's'} queued" if queued else ""
        yield Finding("no_worker", Severity.PROBLEM, f"no workers online{waiting}", "start one: make start")
    ours = stores.named(settings.payload_store)
    # Names of workers hold names of hosts, and /health is public.
    strangers = [worker for worker in seen.workers if worker.get("configured", {}).get("payload_store", ours) != ours]
    if strangers:
        detail = f"{len(strangers)} of {len(seen.workers)} workers: another PAYLOAD_STORE than the API's, so no images"
        yield Finding(
            "payload_store", Severity.PROBLEM, detail, "set the same PAYLOAD_STORE for the API and all workers"
        )
    for model in sorted({worker["model"] for worker in seen.silent}):
        number = sum(worker["model"] == model for worker in seen.silent)
        detail = f"{number} of {model}'s workers lost their lease and have not been rescued yet"
        yield Finding("silent_worker", Severity.WARNING, detail, "check its host and its log; start another worker")


def _answers(seen: Readings) -> Iterator[Finding]:
    """Workers whose answers mean nothing, or that fail on purpose."""
    for model in sorted({worker["model"] for worker in seen.workers if worker["weights"] == "random"}):
        detail = f"{model} has random weights: its answers mean nothing"
        remedy = "give it weights (docs/models.md) and unset ALLOW_RANDOM_WEIGHTS"
        yield Finding("random_weights", Severity.PROBLEM, detail, remedy)
    for model, fault in sorted({(worker["model"], worker.get("chaos") or "off") for worker in seen.workers}):
        if fault != "off":
            detail = f"a worker of {model} has the injected fault {fault}"
            yield Finding("fault", Severity.WARNING, detail, "inferlane chaos off --all")


def _failing(seen: Readings) -> Iterator[Finding]:
    for model, (answered, failed) in sorted(seen.ends.items()):
        if failed >= ENOUGH and not answered:
            detail = f"{model} failed all {failed} requests of the last {LATELY} minutes"
            yield Finding("failing", Severity.PROBLEM, detail, "check its log and the errors of its dead letters")


def _full(seen: Readings, settings: Settings) -> Iterator[Finding]:
    backlog: dict[str, int] = defaultdict(int)
    refused: dict[str, list[str]] = defaultdict(list)
    for lane in seen.lanes:
        backlog[lane["model"]] += lane["depth"]
    for lane in seen.lanes:
        together, alone = room(lane["priority"], settings.max_queue)
        if backlog[lane["model"]] >= together and lane["depth"] >= alone:
            refused[lane["model"]].append(lane["priority"])
    for model, priorities in refused.items():
        detail = f"the lanes of {model} are full for {', '.join(priorities)}: requests are refused"
        yield Finding("lane_full", Severity.PROBLEM, detail, "start workers, resume its lanes, or raise MAX_QUEUE")
    yield from _full_of_images(seen)


def _full_of_images(seen: Readings) -> Iterator[Finding]:
    """Whether another image of average size would be refused."""
    held, bound = seen.image_bytes
    number = sum(lane["depth"] + lane["running"] for lane in seen.lanes)
    if bound and number and held + held / number > bound:
        detail = f"images of open requests take {held} of {bound} bytes: requests are refused"
        remedy = "start workers, or raise MAX_QUEUE_BYTES or the maxmemory of Redis"
        yield Finding("images_full", Severity.PROBLEM, detail, remedy)


def _lanes(seen: Readings) -> Iterator[Finding]:
    for lane in seen.lanes:
        name = lane["lane"]
        if lane["paused"]:
            yield Finding("paused", Severity.WARNING, f"lane {name} is paused", f"inferlane queues --resume {name}")
        elif (lane["oldest_age"] or 0) > BEHIND:
            detail = f"lane {name} is {lane['oldest_age']:.0f} s behind"
            yield Finding("behind", Severity.WARNING, detail, "start workers that serve it")
