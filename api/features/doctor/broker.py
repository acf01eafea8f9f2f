"""Checks of Redis: eviction, persistence, memory, clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.features.doctor.installation import Check, Checks, Installation, Look, judged

#: Share of used memory above which a burst may fill Redis.
NEARLY_FULL = 0.8
#: Seconds by which two clocks may differ; deadlines, expiry and ages use both.
SKEW = 1.0
NTP = "let NTP or chrony set the clock of every host"
FSYNC = {
    "everysec": "everysec: up to a second of accepted requests is lost when the host itself dies, none when Redis dies",
    "always": "always: nothing acknowledged is lost; every write waits for the disk",
    "no": "no: the kernel decides when to write, usually within half a minute",
}


def answers(setup: Installation) -> Checks:
    """Redis answers and is supported."""
    if setup.vitals is None:
        yield Check("redis", False, setup.outage or "Redis does not answer", "start Redis, or correct REDIS_URL")
        return
    yield Check("redis", True, setup.vitals.server)


def eviction(setup: Installation) -> Checks:
    """Redis refuses when full instead of evicting."""
    policy = setup.vitals.policy if setup.vitals else None
    if policy is None:
        yield Check("eviction", None, "unknown", "check that maxmemory-policy is noeviction")
        return
    wrong = [] if policy == "noeviction" else [f"maxmemory-policy is {policy}: accepted requests may be dropped"]
    yield judged("eviction", wrong, fine="noeviction", remedy="CONFIG SET maxmemory-policy noeviction, and in its file")


def persistence(setup: Installation) -> Checks:
    """Accepted requests are persisted."""
    if setup.vitals is None or setup.vitals.appendonly is None:
        yield Check("persistence", None, "unknown", "check that appendonly is yes")
        return
    wrong = []
    if not setup.vitals.appendonly:
        wrong.append("appendonly is no: accepted requests are lost when Redis ends")
    if setup.vitals.write_error:
        wrong.append("the last write of the append-only file failed")
    yield judged("persistence", wrong, fine="append-only file", remedy="CONFIG SET appendonly yes; look at its disk")


def fsync(setup: Installation) -> Checks:
    """Writes reach the disk at least once a second."""
    policy = setup.vitals.fsync if setup.vitals else None
    if policy not in FSYNC:
        yield Check(
            "fsync", None, "unknown: CONFIG is not allowed here", "check that appendfsync is everysec or always"
        )
        return
    remedy = "CONFIG SET appendfsync everysec" if policy == "no" else ""
    yield Check("fsync", policy != "no", FSYNC[policy], remedy)


def memory(setup: Installation) -> Checks:
    """Redis has memory for a burst."""
    vitals = setup.vitals
    room = (vitals.limit or vitals.host_memory) if vitals else None
    if vitals is None or not room:
        yield Check("memory", None, "unknown", "set maxmemory below what the host has")
        return
    share = vitals.used / room
    of = "of maxmemory" if vitals.limit else "of its host's memory, without a maxmemory"
    said = f"{vitals.used / 1e6:.0f} MB, {share:.0%} {of}"
    remedy = "raise maxmemory (REDIS_MAXMEMORY for that of `make start`), lower MAX_QUEUE or RESULT_TTL, or add workers"
    yield judged("memory", [said] if share > NEARLY_FULL else [], fine=said, remedy=remedy)


def clocks(setup: Installation) -> Checks:
    """The clocks of API and workers agree with Redis'."""
    if setup.vitals is None:
        yield Check("clock: API", None, "unknown")
        return
    yield _clock("clock: API", {"the API": setup.vitals.ahead})
    ahead = setup.vitals.workers_ahead
    off = {name: seconds for name, seconds in ahead.items() if abs(seconds) > SKEW}
    silent = [str(worker["id"]) for worker in setup.workers if worker["id"] not in ahead]
    if silent and not off:
        yield Check("clock: workers", None, "not reported by " + ", ".join(silent), "run one version everywhere")
    elif ahead:
        yield _clock("clock: workers", ahead)


def _clock(name: str, ahead: Mapping[str, float]) -> Check:
    wrong = [f"{who} is {seconds:+.1f} s off Redis" for who, seconds in ahead.items() if abs(seconds) > SKEW]
    most = max(abs(seconds) for seconds in ahead.values())
    return judged(name, wrong, fine=f"at most {most * 1000:.0f} ms off Redis", remedy=NTP)


LOOKS: Sequence[Look] = (answers, eviction, persistence, fsync, memory, clocks)
