from __future__ import annotations

import pytest

from dashboard.status import OUTAGES, outage, recent_latency, verdict
from tests.unit.dashboard.samples import minute, snapshot, worker


def test_a_healthy_system_says_how_many_workers_and_how_fast() -> None:
    history = [*[minute(n) for n in range(57)], minute(57, succeeded=4, total=0.09), minute(58), minute(59)]
    said = verdict(snapshot(workers=[worker(), worker("b@host")], history=history))
    assert said == {"level": "ok", "word": "Healthy", "sentence": "2 workers, p95 180 ms"}


def test_a_healthy_system_without_requests_does_not_invent_a_latency() -> None:
    assert verdict(snapshot())["sentence"] == "1 worker, no requests in the last 5 minutes"


def found(*details: str, severity: str = "warning") -> list[dict[str, str]]:
    return [{"code": "x", "severity": severity, "detail": text, "remedy": "mend it"} for text in details]


def test_a_degraded_system_says_why_and_what_to_do() -> None:
    said = verdict(snapshot(status="degraded", findings=found("lane normal is 42 s behind")))
    assert said == {"level": "warn", "word": "Degraded", "sentence": "lane normal is 42 s behind \u2013 mend it"}


def test_many_findings_are_counted() -> None:
    said = verdict(snapshot(status="degraded", findings=found("a", "b", "c", "d", "e")))
    assert said["sentence"] == "a; b; c; and 2 more"


def test_what_the_api_calls_a_problem_is_red_whatever_its_status() -> None:
    findings = [*found("late"), *found("no workers online, 1 waiting", severity="problem")]
    assert verdict(snapshot(status="degraded", findings=findings, workers=[]))["level"] == "bad"
    assert verdict(snapshot(status="unhealthy", findings=findings))["word"] == "Unhealthy"


@pytest.mark.parametrize("state", OUTAGES)
def test_every_outage_has_a_word_and_no_green_light(state: str) -> None:
    said = outage(state, "because")
    assert said["word"]
    assert said["level"] in {"warn", "bad"}


def test_an_error_of_the_api_is_quoted() -> None:
    assert "(disk on fire)" in outage("api_error", "disk on fire")["sentence"]


def test_old_latency_is_not_called_recent() -> None:
    history = [minute(0, succeeded=3, total=0.1), *[minute(n) for n in range(1, 60)]]
    assert recent_latency(history) is None
