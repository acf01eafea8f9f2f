from __future__ import annotations

from typing import Any

import pytest

from inferlane.checks import Diagnosis, Facts, Verdict, examine
from inferlane.errors import AccessDenied, ClientError

NO_WORKER = {"code": "no_worker", "severity": "problem", "detail": "no worker serves x", "remedy": "start one"}


def documents(**more: Any) -> dict[str, Any]:
    return {
        "readiness": {"checks": [{"name": "broker", "ok": True, "detail": "Redis answers"}]},
        "health": {"findings": []},
        "dead_letters": {"dead_letters": []},
        "inside": {"checks": [{"name": "eviction", "ok": True, "detail": "noeviction", "remedy": ""}]},
    } | more


def facts(url: str = "http://127.0.0.1:8000", **more: Any) -> Facts:
    return Facts(**{"url": url, "ahead": 0.3, "documents": documents()} | more)


def complaints(found: Facts) -> list[Diagnosis]:
    return [finding for finding in examine(found) if finding.verdict in {Verdict.WARNING, Verdict.PROBLEM}]


def test_a_sound_installation_has_no_complaints() -> None:
    assert complaints(facts()) == []
    assert "inside: eviction" in {finding.name for finding in examine(facts()) if finding.verdict is Verdict.OK}


def denied(status: int) -> AccessDenied:
    error = AccessDenied("no")
    error.status = status
    return error


@pytest.mark.parametrize(
    ("error", "has_key", "words"),
    [
        (denied(403), False, "put ADMIN_KEY="),
        (denied(401), False, "give an API key with INFERLANE_API_KEY"),
        (denied(401), True, "does not know this key"),
        (denied(403), True, "a user's key"),
    ],
)
def test_what_only_administrators_are_told_is_named_with_the_way_to_it(
    error: ClientError, has_key: bool, words: str
) -> None:
    shut = {name: document for name, document in documents().items() if name != "inside"}
    found = examine(facts(documents=shut, errors={"inside": error}, has_key=has_key))
    (missed,) = [finding for finding in found if finding.verdict is Verdict.UNKNOWN]
    assert "eviction" in missed.detail
    assert words in missed.remedy


def test_what_the_api_finds_inside_is_a_problem_or_unknown_with_its_remedy() -> None:
    checks = [
        {"name": "eviction", "ok": False, "detail": "allkeys-lru", "remedy": "noeviction"},
        {"name": "threads", "ok": None, "detail": "not told", "remedy": "run one version"},
    ]
    found = examine(facts(documents=documents(inside={"checks": checks})))
    bad = {finding.name: finding for finding in found if finding.verdict is not Verdict.OK}
    assert bad["inside: eviction"] == Diagnosis("inside: eviction", Verdict.PROBLEM, "allkeys-lru", "noeviction")
    assert bad["inside: threads"].verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("sick", "name", "verdict", "words"),
    [
        (facts(round_trip=0.5), "API", Verdict.WARNING, "500 ms"),
        (facts(ahead=-40.0), "clock", Verdict.PROBLEM, "-40 s"),
        (facts("http://10.0.0.1"), "access", Verdict.PROBLEM, "no API key"),
        (facts("http://api.example", has_key=True), "access", Verdict.WARNING, "unencrypted"),
        (
            facts(documents=documents(health={"findings": [NO_WORKER]})),
            "health: no_worker", Verdict.PROBLEM, "serves x",
        ),
        (
            facts(documents=documents(dead_letters={"dead_letters": [{}, {}]})),
            "dead letters", Verdict.WARNING, "given up: 2",
        ),
        (
            facts(documents=documents(readiness={"checks": [{"name": "workers", "ok": False, "detail": "none"}]})),
            "ready: workers", Verdict.PROBLEM, "none",
        ),
    ],
)  # fmt: skip
def test_each_complaint_is_found_alone(sick: Facts, name: str, verdict: Verdict, words: str) -> None:
    (finding,) = complaints(sick)
    assert (finding.name, finding.verdict) == (name, verdict)
    assert words in finding.detail


def test_an_address_for_others_with_key_and_tls_is_sound() -> None:
    assert complaints(facts("https://api.example", has_key=True)) == []


def test_what_may_not_be_read_is_unknown_and_breaks_no_check() -> None:
    refused = {name: AccessDenied("an API key is needed") for name in ("readiness", "health", "dead_letters")}
    found = examine(facts("https://api.example", documents={}, errors=refused))
    assert sum(finding.verdict is Verdict.UNKNOWN for finding in found) >= 3
    assert not [finding for finding in found if finding.verdict is Verdict.PROBLEM]
