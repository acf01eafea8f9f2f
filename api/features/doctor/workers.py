"""Checks of the workers: weights, threads, versions, settings, precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from api.features.doctor.installation import Check, Checks, Installation, Look, judged
from tasks.inspect.redis_info import shared
from tasks.protocol.servers import release

NEEDED: Mapping[str, tuple[int, ...]] = {"celery": (5, 7), "kombu": (5, 7)}


def weights(setup: Installation) -> Checks:
    """No model has random weights; one check per model."""
    names = dict.fromkeys([*setup.settings.models, *sorted(str(worker["model"]) for worker in setup.workers)])
    for model in names:
        loaded = {str(worker["weights"]) for worker in setup.workers if worker["model"] == model}
        if not loaded:
            yield Check(f"weights: {model}", None, "no worker has loaded any", "python -m worker_models prepare")
            continue
        wrong = ["random: its answers mean nothing"] if "random" in loaded else []
        remedy = "give it weights (docs/models.md) and unset ALLOW_RANDOM_WEIGHTS"
        yield judged(f"weights: {model}", wrong, fine=", ".join(sorted(loaded)), remedy=remedy)


def threads(setup: Installation) -> Checks:
    """The workers of a host use no more threads than it has cores."""
    hosts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for worker in setup.workers:
        if str(worker.get("device", "cpu")).startswith("cpu"):
            hosts[str(worker["host"])].append(worker)
    wrong, unknown, said = [], [], []
    for host, workers in sorted(hosts.items()):
        if any(worker.get("intra_op_threads") is None for worker in workers):
            unknown.append(host)
            continue
        asked, cores = sum(int(worker["intra_op_threads"]) for worker in workers), _cores(workers)
        said.append(f"{host}: {len(workers)} workers compute with {asked} threads on {cores} cores")
        if asked > cores:
            wrong.append(said[-1])
    yield _threads(wrong, unknown, said)


def _threads(wrong: Sequence[str], unknown: Sequence[str], said: Sequence[str]) -> Check:
    if not wrong and (unknown or not said):
        return Check(
            "threads", None, f"not reported by {', '.join(unknown)}" if unknown else "no worker computes on a CPU"
        )
    remedy = "set WORKERS_ON_HOST to the number of workers that share the host, or INTRA_OP_THREADS"
    return judged("threads", wrong, fine="; ".join(said), remedy=remedy)


def _cores(workers: Sequence[Mapping[str, Any]]) -> int:
    """Cores available to these workers of one host: the union of their affinities, limited by quotas."""
    together = 0
    quotas = []
    for worker in workers:
        mask = int(str(worker["cpu_mask"]), 16)
        together |= mask
        if int(worker["cpu_count"]) < mask.bit_count():
            quotas.append(int(worker["cpu_count"]))
    return min([together.bit_count(), *quotas])


def versions(setup: Installation) -> Checks:
    """API and workers run the same, supported versions."""
    told: dict[str, Mapping[str, str] | None] = {"the API": setup.versions}
    told |= {str(worker["id"]): worker.get("versions") for worker in setup.workers}
    wrong = [line for who, found in told.items() if found is not None for line in _too_old(who, found)]
    wrong += _differences({who: found for who, found in told.items() if found is not None})
    silent = [who for who, found in told.items() if found is None]
    if silent and not wrong:
        yield Check("versions", None, "not reported by " + ", ".join(silent), "run the same version everywhere")
        return
    fine = ", ".join(f"{package} {version}" for package, version in setup.versions.items())
    yield judged("versions", wrong, fine=fine, remedy="pip install -r requirements.txt, everywhere the same")


def _too_old(who: str, found: Mapping[str, str]) -> list[str]:
    return [
        f"{who} has {package} {found.get(package, 'nowhere')}, at least {'.'.join(map(str, least))} is needed"
        for package, least in NEEDED.items()
        if release(found.get(package, "")) < least
    ]


def _differences(told: Mapping[str, Mapping[str, str]]) -> list[str]:
    ours = told["the API"]
    return [
        f"{who} has {package} {found[package]}, the API {ours[package]}"
        for who, found in told.items()
        for package in ours
        if found.get(package, ours[package]) != ours[package]
    ]


def settings(setup: Installation) -> Checks:
    """Workers and API have the same settings."""
    ours = shared(setup.settings)
    told = {str(worker["id"]): worker.get("configured") for worker in setup.workers}
    wrong = [
        f"{who} has {name.upper()} {found[name]}, the API {value}"
        for who, found in told.items()
        for name, value in ours.items()
        if found is not None and found.get(name, value) != value
    ]
    silent = [who for who, found in told.items() if found is None]
    if silent and not wrong:
        yield Check("settings", None, "not reported by " + ", ".join(silent), "run the same version everywhere")
        return
    yield judged("settings", wrong, fine="workers and API agree", remedy="give all processes the same environment")


def precision(setup: Installation) -> Checks:
    """What each worker computes in, and what PRECISION=fast would bring; never a problem."""
    for model in dict.fromkeys(str(worker["model"]) for worker in setup.workers):
        rows = [worker for worker in setup.workers if worker["model"] == model]
        used = {f"{worker['runtime']} {worker.get('precision') or ''}".strip() for worker in rows}
        known = sorted({str(worker["fast"]) for worker in rows if worker.get("fast")})
        brings = [f"with PRECISION=fast, {text}" for text in known]
        yield judged(f"precision: {model}", [], fine="; ".join([*sorted(used), *brings]), remedy="")


LOOKS: Sequence[Look] = (weights, threads, versions, settings, precision)
