"""What people get wrong with an installation, as far as it shows over HTTP.

A check is a function from :class:`~inferlane.facts.Facts` to findings, so each is tested on facts made for it. What the
API does not tell is reported as unknown and never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from inferlane.access import advice as access_advice
from inferlane.errors import AccessDenied, NotFound
from inferlane.facts import INSIDE, PATHS, Facts

SLOW_ANSWER = 0.1  # seconds for /livez, which does nothing
CLOCK_TOLERANCE = 2.0  # seconds; the Date header is exact to one, and the call takes its time
HEARTBEAT = 5.0  # seconds between two heartbeats at most; leases are renewed many times in that
UNSEEN = "how Redis evicts and persists, clocks, threads, versions, timeouts, priorities, settings"


class Verdict(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


Findings = Iterator[Finding]


def answers(facts: Facts) -> Findings:
    """The API answers, and at once."""
    detail = f"{facts.url} answers in {facts.round_trip * 1000:.0f} ms"
    if facts.round_trip <= SLOW_ANSWER:
        yield Finding("API", Verdict.OK, detail)
    else:
        yield Finding("API", Verdict.WARNING, detail, "is its host overloaded, or far away?")
    for name, error in facts.errors.items():
        if name == INSIDE and isinstance(error, AccessDenied | NotFound):
            continue  # no fault of the installation; ``inside`` says what was missed
        verdict = Verdict.UNKNOWN if isinstance(error, AccessDenied) else Verdict.PROBLEM
        yield Finding("API", verdict, f"{PATHS[name]}: {error}")


def clock(facts: Facts) -> Findings:
    """Clocks agree: deadlines and expiry are computed from them."""
    if facts.ahead is None:
        yield Finding("clock", Verdict.UNKNOWN, "the API sends no Date")
    elif abs(facts.ahead) <= CLOCK_TOLERANCE:
        yield Finding("clock", Verdict.OK, "the API's clock agrees with this one")
    else:
        yield Finding("clock", Verdict.PROBLEM, f"the API's clock is {facts.ahead:+.0f} s off this one", "use NTP")


def readiness(facts: Facts) -> Findings:
    """Everything that requests need is there."""
    for check in facts.documents.get("readiness", {}).get("checks", ()):
        verdict = Verdict.OK if check["ok"] else Verdict.PROBLEM
        yield Finding(f"ready: {check['name']}", verdict, check["detail"])


def health(facts: Facts) -> Findings:
    """What the API itself finds wrong; nothing of it is judged here."""
    for found in facts.documents.get("health", {}).get("findings", ()):
        yield Finding(f"health: {found['code']}", Verdict(found["severity"]), found["detail"], found["remedy"])


def access(facts: Facts) -> Findings:
    """Nobody gets in who should not, and no key travels in the clear."""
    open_to_all = not facts.has_key and "workers" in facts.documents
    if facts.local:
        yield Finding("access", Verdict.OK, "this address can only be reached from its own host")
    elif open_to_all:
        yield Finding("access", Verdict.PROBLEM, "no API key is asked for on an address that others can reach",
                      "set API_KEYS and AUTH=on")  # fmt: skip
    elif facts.has_key and facts.url.startswith("http:"):
        yield Finding("access", Verdict.WARNING, "the API key travels unencrypted", "put TLS in front, use https")
    else:
        yield Finding("access", Verdict.OK, "a key is asked for")


def weights(facts: Facts) -> Findings:
    """No worker answers from random weights."""
    rows = _workers(facts)
    guessing = [row["id"] for row in rows if row.get("weights") == "random"]
    if guessing:
        yield Finding("weights", Verdict.PROBLEM, f"random weights, the answers mean nothing: {', '.join(guessing)}",
                      "give them weights and unset ALLOW_RANDOM_WEIGHTS")  # fmt: skip
    elif rows:
        yield Finding("weights", Verdict.OK, "every worker has weights")


def heartbeats(facts: Facts) -> Findings:
    """The clocks of workers agree with the API's; a worker without a lease sends no heartbeat."""
    for row in _workers(facts):
        age = (_time(facts.documents["workers"]["timestamp"]) - _time(row["last_heartbeat"])).total_seconds()
        if row.get("state") != "silent" and not -CLOCK_TOLERANCE <= age <= HEARTBEAT:
            where = "behind" if age > 0 else "ahead of"
            yield Finding("heartbeat", Verdict.PROBLEM, f"{row['id']} is {abs(age):.0f} s {where} the API", "use NTP")


def faults(facts: Facts) -> Findings:
    """No worker misbehaves because it was told to."""
    for row in _workers(facts):
        if row.get("chaos") not in {None, "off"}:
            yield Finding("chaos", Verdict.WARNING, f"{row['id']} has been told to {row['chaos']}", "chaos off --all")
        elif row.get("chaos") == "off" and not facts.local:
            yield Finding("chaos", Verdict.WARNING, f"{row['id']} runs with CHAOS_ENABLED", "not in production")


def dead_letters(facts: Facts) -> Findings:
    """No request waits for a person."""
    if letters := facts.documents.get("dead_letters", {}).get("dead_letters"):
        yield Finding("dead letters", Verdict.WARNING, f"{len(letters)} requests were given up", "dead-letters")


def inside(facts: Facts) -> Findings:
    """What only the API can see, and tells administrators."""
    for check in facts.documents.get(INSIDE, {}).get("checks", ()):
        verdict = {True: Verdict.OK, False: Verdict.PROBLEM}.get(check["ok"], Verdict.UNKNOWN)
        remedy = "" if verdict is Verdict.OK else check.get("remedy") or ""
        yield Finding(f"inside: {check['name']}", verdict, check["detail"], remedy)
    error = facts.errors.get(INSIDE)
    if isinstance(error, AccessDenied):
        yield Finding("inside", Verdict.UNKNOWN, f"not looked at: {UNSEEN}; only administrators are told",
                      access_advice(error, has_key=facts.has_key))  # fmt: skip
    elif isinstance(error, NotFound):
        yield Finding("inside", Verdict.UNKNOWN, f"not looked at: {UNSEEN}; this API is too old to tell", "update it")


CHECKS: Sequence[Callable[[Facts], Findings]] = (
    answers, clock, readiness, health, access, weights, heartbeats, faults, dead_letters, inside,
)  # fmt: skip


def examine(facts: Facts) -> list[Finding]:
    """Every finding of every check."""
    return [finding for check in CHECKS for finding in check(facts)]


def _workers(facts: Facts) -> Sequence[Any]:
    rows: Sequence[Any] = facts.documents.get("workers", {}).get("workers", ())
    return rows


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
