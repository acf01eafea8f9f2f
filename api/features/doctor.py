"""The doctor: checks of the installation from the inside, ``GET /admin/doctor``.

:mod:`tasks.inspect.health` finds current failures, these checks future ones: settings, versions and hosts that do not
fit together. A check that cannot be made here is ``None``, never a guess.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from api.services import service
from common.serving import loopback
from common.settings import Settings
from tasks.errors import BrokerUnavailable
from tasks.inspect.monitor import Monitor
from tasks.inspect.redis_info import Vitals, shared
from tasks.protocol.servers import release

#: Share of used memory above which a burst may fill Redis.
NEARLY_FULL = 0.8
#: Seconds by which two clocks may differ; deadlines, expiry and ages use both.
SKEW = 1.0
#: A full pass may take this many times its average before it counts as hung.
SLACK = 10
NEEDED: Mapping[str, tuple[int, ...]] = {"celery": (5, 7), "kombu": (5, 7)}
FSYNC = {
    "everysec": "everysec: up to a second of accepted requests is lost when the host itself dies, none when Redis dies",
    "always": "always: nothing acknowledged is lost; every write waits for the disk",
    "no": "no: the kernel decides when to write, usually within half a minute",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One result; ``ok`` is None if it cannot be known here, ``remedy`` empty when nothing is wrong."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The state of the installation.

    Attributes:
        asks_for_keys: whether user routes require a key.
        proxied_from: the host name that a proxy forwards, ``""`` without a proxy.
        versions: package -> version, in this API process.
        vitals: of Redis; None when it does not answer.
        outage: why Redis does not answer.
    """

    settings: Settings
    asks_for_keys: bool
    proxied_from: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    vitals: Vitals | None = None
    outage: str = ""
    workers: Sequence[Mapping[str, Any]] = ()


def inspect(settings: Settings, **known: Any) -> Installation:
    """This installation; ``known`` are members that only the caller can fill in."""
    known |= {"settings": settings, "versions": {name: version(name) for name in ("celery", "kombu", "redis")}}
    monitor = service(Monitor)
    try:
        monitor.ping()
        return Installation(**known, vitals=monitor.vitals(), workers=monitor.workers())
    except BrokerUnavailable as error:
        return Installation(**known, outage=str(error))


def examine(setup: Installation) -> list[Check]:
    """Every check, in a fixed order; without Redis, those that do not need it."""
    parts = (_redis(setup), _weights(setup), [_threads(setup), _versions(setup), _settings(setup)], _precision(setup))
    return [check for part in parts for check in part] + [
        _durations(setup),
        _order(setup.settings),
        _access(setup),
        _faults(setup),
    ]


def _judged(name: str, wrong: Sequence[str], fine: str, remedy: str) -> Check:
    """A check that fails if ``wrong`` is not empty."""
    return Check(name, not wrong, "; ".join(wrong) if wrong else fine, remedy if wrong else "")


def _redis(setup: Installation) -> Iterator[Check]:
    """Redis answers, refuses when full, keeps what it accepted, and has memory and the right time."""
    vitals = setup.vitals
    if vitals is None:
        yield Check("redis", False, setup.outage or "Redis does not answer", "start Redis, or correct REDIS_URL")
        for name in ("eviction", "persistence", "fsync", "memory", "clock: API"):
            yield Check(name, None, "unknown")
        return
    yield Check("redis", True, vitals.server)
    yield from (_eviction(vitals.policy), _persistence(vitals), _fsync(vitals.fsync), _memory(vitals))
    yield _clock("clock: API", {"the API": vitals.ahead})
    if vitals.workers_ahead:
        yield _clock("clock: workers", vitals.workers_ahead)


def _clock(name: str, ahead: Mapping[str, float]) -> Check:
    wrong = [f"{who} is {seconds:+.1f} s off Redis" for who, seconds in ahead.items() if abs(seconds) > SKEW]
    fine = f"at most {max(map(abs, ahead.values())) * 1000:.0f} ms off Redis"
    return _judged(name, wrong, fine, "let NTP or chrony set the clock of every host")


def _eviction(policy: str | None) -> Check:
    if policy is None:
        return Check("eviction", None, "unknown", "check that maxmemory-policy is noeviction")
    wrong = [] if policy == "noeviction" else [f"maxmemory-policy is {policy}: accepted requests may be dropped"]
    return _judged("eviction", wrong, "noeviction", "CONFIG SET maxmemory-policy noeviction, and in its file")


def _persistence(vitals: Vitals) -> Check:
    if vitals.appendonly is None:
        return Check("persistence", None, "unknown", "check that appendonly is yes")
    wrong = [] if vitals.appendonly else ["appendonly is no: accepted requests are lost when Redis ends"]
    if vitals.write_error:
        wrong.append("the last write of the append-only file failed")
    return _judged("persistence", wrong, "append-only file", "CONFIG SET appendonly yes; look at its disk")


def _fsync(policy: str | None) -> Check:
    if policy not in FSYNC:
        detail = "unknown: CONFIG is not allowed here"
        return Check("fsync", None, detail, "check that appendfsync is everysec or always")
    return Check("fsync", policy != "no", FSYNC[policy], "CONFIG SET appendfsync everysec" if policy == "no" else "")


def _memory(vitals: Vitals) -> Check:
    room = vitals.limit or vitals.host_memory
    if not room:
        return Check("memory", None, "unknown", "set maxmemory below what the host has")
    of = "of maxmemory" if vitals.limit else "of its host's memory, without a maxmemory"
    said = f"{vitals.used / 1e6:.0f} MB, {vitals.used / room:.0%} {of}"
    remedy = "raise maxmemory (REDIS_MAXMEMORY for that of `make start`), lower MAX_QUEUE or RESULT_TTL, or add workers"
    return _judged("memory", [said] if vitals.used / room > NEARLY_FULL else [], said, remedy)


def _weights(setup: Installation) -> Iterator[Check]:
    """No model has random weights; one check per model."""
    names = dict.fromkeys([*setup.settings.models, *sorted(str(worker["model"]) for worker in setup.workers)])
    for model in names:
        loaded = {str(worker["weights"]) for worker in setup.workers if worker["model"] == model}
        if not loaded:
            yield Check(f"weights: {model}", None, "no worker has loaded any", "python -m worker_models prepare")
            continue
        wrong = ["random: its answers mean nothing"] if "random" in loaded else []
        remedy = "give it weights (docs/models.md) and unset ALLOW_RANDOM_WEIGHTS"
        yield _judged(f"weights: {model}", wrong, ", ".join(sorted(loaded)), remedy)


def _threads(setup: Installation) -> Check:
    """The workers of a host use no more threads than it has cores."""
    hosts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for worker in setup.workers:
        if str(worker.get("device", "cpu")).startswith("cpu"):
            hosts[str(worker["host"])].append(worker)
    if not hosts:
        return Check("threads", None, "no worker computes on a CPU")
    wrong, said = [], []
    for host, workers in sorted(hosts.items()):
        asked, cores = sum(int(worker["intra_op_threads"]) for worker in workers), _cores(workers)
        said.append(f"{host}: threads {asked}, workers {len(workers)}, cores {cores}")
        wrong += said[-1:] if asked > cores else []
    remedy = "set WORKERS_ON_HOST to the number of workers that share the host, or INTRA_OP_THREADS"
    return _judged("threads", wrong, "; ".join(said), remedy)


def _cores(workers: Sequence[Mapping[str, Any]]) -> int:
    """Cores available to these workers of one host: the union of their affinities, limited by quotas."""
    together, quotas = 0, []
    for worker in workers:
        mask = int(str(worker["cpu_mask"]), 16)
        together |= mask
        if int(worker["cpu_count"]) < mask.bit_count():
            quotas.append(int(worker["cpu_count"]))
    return min([together.bit_count(), *quotas])


def _versions(setup: Installation) -> Check:
    """API and workers run the same, supported versions."""
    ours = setup.versions
    told = {"the API": ours} | {str(worker["id"]): worker["versions"] for worker in setup.workers}
    wrong = [
        f"{who} has {package} {found.get(package, 'nowhere')}, at least {'.'.join(map(str, least))} is needed"
        for who, found in told.items()
        for package, least in NEEDED.items()
        if release(found.get(package, "")) < least
    ]
    wrong += _differences(ours, told)
    fine = ", ".join(f"{package} {number}" for package, number in ours.items())
    remedy = "pip install -r requirements.txt, everywhere the same"
    return _judged("versions", wrong, fine, remedy)


def _settings(setup: Installation) -> Check:
    """Workers and API have the same settings."""
    ours = {name.upper(): value for name, value in shared(setup.settings).items()}
    told = {
        str(worker["id"]): {name.upper(): value for name, value in worker["configured"].items()}
        for worker in setup.workers
    }
    remedy = "give all processes the same environment"
    return _judged("settings", _differences(ours, told), "workers and API agree", remedy)


def _precision(setup: Installation) -> Iterator[Check]:
    """The precision of each worker, and the gain of PRECISION=fast; never a problem."""
    for model in dict.fromkeys(str(worker["model"]) for worker in setup.workers):
        rows = [worker for worker in setup.workers if worker["model"] == model]
        used = {f"{worker['runtime']} {worker.get('precision') or ''}".strip() for worker in rows}
        known = sorted({str(worker["fast"]) for worker in rows if worker.get("fast")})
        brings = [f"with PRECISION=fast, {text}" for text in known]
        yield Check(f"precision: {model}", True, "; ".join([*sorted(used), *brings]))


def _differences(ours: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{who} has {name} {found[name]}, the API {value}"
        for who, found in told.items()
        for name, value in ours.items()
        if found.get(name, value) != value
    ]


def _durations(setup: Installation) -> Check:
    """A dead worker's requests run again while callers still wait, and only hung work is ended.

    Leases replace a visibility timeout, so no timeout depends on the longest task; the lease must be the shortest.
    """
    lease, wait, limit = setup.settings.lease_ttl, setup.settings.max_wait, setup.settings.hard_timeout
    noticed = lease + setup.settings.lease_renew
    wrong = []
    if noticed >= wait:
        wrong.append(f"a dead worker is noticed after {noticed:g} s, callers wait MAX_WAIT {wait:g} s")
    if lease >= limit:
        wrong.append(f"LEASE_TTL {lease:g} s is not less than HARD_TIMEOUT {limit:g} s")
    wrong += [
        f"HARD_TIMEOUT {limit:g} s ends {worker['id']} when a batch of {worker['max_batch']} takes {SLACK} times"
        " the usual"
        for worker in setup.workers
        if SLACK * worker["max_batch"] * float(worker.get("service_seconds") or 0) > limit
    ]
    fine = f"LEASE_TTL {lease:g} s, MAX_WAIT {wait:g}, HARD_TIMEOUT {limit:g}"
    return _judged("timeouts", wrong, fine, "LEASE_TTL well below MAX_WAIT, HARD_TIMEOUT above both")


def _order(settings: Settings) -> Check:
    """High goes before normal, normal before low."""
    if settings.lane_order == "strict":
        return Check("priorities", True, "strict: low waits for all others")
    shares = ":".join(map(str, settings.lane_weights))
    backwards = list(settings.lane_weights) != sorted(settings.lane_weights, reverse=True)
    wrong = [f"LANE_WEIGHTS {shares} serve a lower priority more often than a higher one"] if backwards else []
    fine = f"weighted: high, normal and low share the turns {shares} while all have work"
    return _judged("priorities", wrong, fine, "give LANE_WEIGHTS in the order high,normal,low, descending")


def _access(setup: Installation) -> Check:
    """Other hosts need a key."""
    if setup.asks_for_keys:
        return Check("access", True, "user routes require a key")
    public = _public(setup)
    wrong = [f"no key is required, and others reach it: {', '.join(public)}"] if public else []
    fine = f"no key is required; {setup.settings.api_host} is reachable from its own host only"
    return _judged("access", wrong, fine, "set AUTH=on and ADMIN_KEY; inferlane keys create NAME for each user")


def _faults(setup: Installation) -> Check:
    """No faults can be injected where others rely on the answers."""
    if not setup.settings.chaos_enabled:
        return Check("faults", True, "CHAOS_ENABLED is off")
    wrong = [f"CHAOS_ENABLED allows faults, and others reach this API: {', '.join(_public(setup))}"]
    fine = "CHAOS_ENABLED allows faults; this API is reachable from its own host only"
    return _judged("faults", wrong if _public(setup) else [], fine, "unset CHAOS_ENABLED")


def _public(setup: Installation) -> list[str]:
    """The addresses through which other hosts reach the API."""
    hosts = {
        "API_HOST": setup.settings.api_host,
        "API_URL": urlsplit(setup.settings.api_url).hostname or "",
        "called through a proxy as": setup.proxied_from,
    }
    return [f"{what} {host}" for what, host in hosts.items() if host and not loopback(host)]
