"""Common mistakes in an installation, as seen over HTTP: :func:`gather` the facts, :func:`examine` them.

A check is a function from :class:`Facts` to findings. What the API does not say is unknown, never guessed.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from inferlane.clients import Client
from inferlane.connection import Call, is_loopback
from inferlane.console import access_advice
from inferlane.errors import AccessDenied, ClientError
from inferlane.exchange import exchange

SLOW_ANSWER = 0.1  # seconds for /livez, which does nothing
CLOCK_TOLERANCE = 2.0  # seconds; the Date header is exact to one, and the call takes its time
UNSEEN = "eviction and persistence of Redis, clocks, threads, versions, timeouts, priorities, settings"
INSIDE = "inside"
PATHS: Mapping[str, str] = {
    "readiness": "/readyz",
    "health": "/health",
    "dead_letters": "/dead_letters",
    INSIDE: "/admin/doctor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The API's statements about itself.

    Attributes:
        round_trip: seconds that ``/livez`` took.
        ahead: seconds by which the API's clock is ahead of ours, exact to about one; None when unknown.
        documents: the answers, by the names of :data:`PATHS`.
        errors: why the others are missing.
    """

    url: str
    has_key: bool = False
    round_trip: float = 0.0
    ahead: float | None = None
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: Mapping[str, ClientError] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """Whether the API is on a loopback address."""
        return is_loopback(self.url)


class Verdict(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a check found, and what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


Findings = Iterator[Diagnosis]


def answers(facts: Facts) -> Findings:
    """The API answers quickly."""
    detail = f"{facts.url} answers in {facts.round_trip * 1000:.0f} ms"
    if facts.round_trip <= SLOW_ANSWER:
        yield Diagnosis("API", Verdict.OK, detail)
    else:
        yield Diagnosis("API", Verdict.WARNING, detail, "is its host overloaded, or far away?")
    for name, error in facts.errors.items():
        if name == INSIDE and isinstance(error, AccessDenied):
            continue  # no fault of the installation; the finding ``inside`` lists what was not checked
        verdict = Verdict.UNKNOWN if isinstance(error, AccessDenied) else Verdict.PROBLEM
        yield Diagnosis("API", verdict, f"{PATHS[name]}: {error}")


def clock(facts: Facts) -> Findings:
    """Clocks agree: deadlines and expiry are computed from them."""
    if facts.ahead is None:
        yield Diagnosis("clock", Verdict.UNKNOWN, "the API sends no Date")
    elif abs(facts.ahead) <= CLOCK_TOLERANCE:
        yield Diagnosis("clock", Verdict.OK, "the API's clock agrees with this one")
    else:
        yield Diagnosis("clock", Verdict.PROBLEM, f"the API's clock is {facts.ahead:+.0f} s off this one", "use NTP")


def access(facts: Facts) -> Findings:
    """Others need a key, and no key travels in the clear."""
    if facts.local:
        yield Diagnosis("access", Verdict.OK, "this address is reachable from its own host only")
    elif not facts.has_key and "dead_letters" in facts.documents:
        yield Diagnosis("access", Verdict.PROBLEM, "no API key is required on an address that others can reach",
                      "set API_KEYS and AUTH=on")  # fmt: skip
    elif facts.has_key and facts.url.startswith("http:"):
        yield Diagnosis("access", Verdict.WARNING, "the API key travels unencrypted", "put TLS in front, use https")
    else:
        yield Diagnosis("access", Verdict.OK, "a key is required")


def reported(facts: Facts) -> Findings:
    """The API's own findings: readiness, health, dead letters, and the doctor that only admins may read."""
    told, inside = facts.documents, facts.errors.get(INSIDE)
    for check in told.get("readiness", {}).get("checks", ()):
        verdict = Verdict.OK if check["ok"] else Verdict.PROBLEM
        yield Diagnosis(f"ready: {check['name']}", verdict, check["detail"])
    for found in told.get("health", {}).get("findings", ()):
        yield Diagnosis(f"health: {found['code']}", Verdict(found["severity"]), found["detail"], found["remedy"])
    if letters := told.get("dead_letters", {}).get("dead_letters"):
        yield Diagnosis("dead letters", Verdict.WARNING, f"requests given up: {len(letters)}", "dead-letters")
    for check in told.get(INSIDE, {}).get("checks", ()):
        verdict = {True: Verdict.OK, False: Verdict.PROBLEM}.get(check["ok"], Verdict.UNKNOWN)
        yield Diagnosis(f"inside: {check['name']}", verdict, check["detail"], check["remedy"])
    if isinstance(inside, AccessDenied):
        yield Diagnosis("inside", Verdict.UNKNOWN, f"not checked: {UNSEEN}; only administrators may read it",
                        access_advice(inside, has_key=facts.has_key))  # fmt: skip


def examine(facts: Facts) -> list[Diagnosis]:
    """Every finding of every check."""
    return [finding for check in (answers, clock, access, reported) for finding in check(facts)]


def gather(client: Client) -> Facts:
    """Ask for everything; raises ClientError if not even ``/livez`` is answered."""
    began = time.monotonic()
    connection = client.connection
    alive = connection.run(exchange(connection, lambda: Call("GET", "/livez"), connection.limits()))
    took = time.monotonic() - began
    ahead = None
    with suppress(KeyError, ValueError):
        ahead = (parsedate_to_datetime(alive.headers["Date"]) - datetime.now(UTC)).total_seconds()
    documents: dict[str, Mapping[str, Any]] = {}
    errors: dict[str, ClientError] = {}
    for name, path in PATHS.items():
        try:
            documents[name] = client.document(path, accept={503} if name in {"readiness", "health"} else ())
        except ClientError as error:
            errors[name] = error
    url, has_key = connection.url, bool(connection.api_key)
    return Facts(url=url, has_key=has_key, round_trip=took, ahead=ahead, documents=documents, errors=errors)
