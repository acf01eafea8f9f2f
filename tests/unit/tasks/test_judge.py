"""The judge of health: each finding from readings made for it."""

from __future__ import annotations

from typing import Any

import pytest

from common.settings import load_settings
from tasks.inspect.health import Finding, Readings, Severity, judge, outage, status
from tests.unit.api.fakes import lane_row, worker_row

WELL = {"workers": [worker_row("toy-1@host", "toy")], "lanes": [lane_row("normal.toy"), lane_row("low.toy")]}


def found(environ: dict[str, str] | None = None, **readings: Any) -> list[Finding]:
    """What is found in a system that is well but for these readings."""
    return judge(Readings(**WELL | readings), load_settings({"MODELS": "toy", "MAX_QUEUE": "100"} | (environ or {})))


def test_nothing_is_found_in_a_system_that_is_well() -> None:
    assert (found(), status([])) == ([], "healthy")


@pytest.mark.parametrize(
    ("readings", "code", "severity", "words"),
    [
        ({"workers": [worker_row("a@h", "other")]}, "no_worker", Severity.PROBLEM, "no worker serves toy"),
        (
            {"workers": [worker_row("a@h", "toy", state="draining")]},
            "no_worker", Severity.PROBLEM, "no worker serves toy",
        ),
        ({"workers": []}, "no_worker", Severity.PROBLEM, "no workers online"),
        (
            {"workers": [], "lanes": [lane_row("low.toy", depth=2), lane_row("high", depth=1)]},
            "no_worker", Severity.PROBLEM, "no workers online, 3 requests queued",
        ),
        (
            {"silent": [worker_row("b@h", "toy"), worker_row("c@h", "toy")]},
            "silent_worker", Severity.WARNING, "2 of toy's workers lost their lease",
        ),
        ({"lanes": [lane_row("low.toy", paused=True)]}, "paused", Severity.WARNING, "lane low.toy is paused"),
        ({"lanes": [lane_row("low.toy", oldest_age=31.2)]}, "behind", Severity.WARNING, "lane low.toy is 31 s behind"),
        ({"ends": {"toy": (0, 5)}}, "failing", Severity.PROBLEM, "toy failed all 5 requests"),
        (
            {"lanes": [lane_row("high.toy", depth=10), lane_row("low.toy", depth=40)]},
            "lane_full", Severity.PROBLEM, "the lanes of toy are full for low: requests",
        ),
        (
            {"lanes": [lane_row("high.toy", depth=60), lane_row("normal.toy", depth=30)]},
            "lane_full", Severity.PROBLEM, "the lanes of toy are full for high, normal: requests",
        ),
        (
            {"image_bytes": (8000, 10_000), "lanes": [lane_row("normal.toy", depth=1, running=1)]},
            "images_full", Severity.PROBLEM, "8000 of 10000 bytes",
        ),
        (
            {"workers": [worker_row("a@h", "toy", weights="random")]},
            "random_weights", Severity.PROBLEM, "its answers mean nothing",
        ),
        (
            {"workers": [worker_row("a@h", "toy", chaos="slow"), worker_row("b@h", "toy", chaos="off")]},
            "fault", Severity.WARNING, "a worker of toy has the injected fault slow",
        ),
        ({"refusal": "Redis is full: OOM"}, "redis", Severity.PROBLEM, "nothing is accepted: Redis is full: OOM"),
    ],
)  # fmt: skip
def test_each_finding_is_found_alone(readings: dict[str, Any], code: str, severity: Severity, words: str) -> None:
    (one,) = found(**readings)
    assert (one.code, one.severity) == (code, severity)
    assert words in one.detail
    assert one.remedy
    assert status([one]) == ("unhealthy" if code == "redis" else "degraded")


@pytest.mark.parametrize(
    "readings",
    [
        {"ends": {"toy": (0, 4)}},  # too few to tell
        {"ends": {"toy": (1, 50)}},
        {"lanes": [lane_row("low.toy", depth=49)]},
        {"lanes": [lane_row("high.toy", depth=79), lane_row("low.toy", depth=4)]},  # low has a share to itself
        {"lanes": [lane_row("low.toy", oldest_age=29.0)]},
        {"image_bytes": (7000, 10_000), "lanes": [lane_row("normal.toy", depth=3)]},
        {"image_bytes": (7000, 0), "lanes": [lane_row("normal.toy", depth=1)]},
    ],
)
def test_what_is_close_to_it_is_not_found(readings: dict[str, Any]) -> None:
    assert found(**readings) == []


def test_lanes_of_one_model_do_not_fill_those_of_another() -> None:
    lanes = [lane_row("normal.toy", depth=60), lane_row("normal.other", depth=60), lane_row("normal", depth=60)]
    assert found(lanes=lanes) == []


def test_the_worst_is_told_first() -> None:
    codes = [one.code for one in found(lanes=[lane_row("low.toy", paused=True)], ends={"toy": (0, 9)})]
    assert codes == ["failing", "paused"]


def test_without_redis_it_is_unhealthy() -> None:
    assert status([outage("Redis does not answer")]) == "unhealthy"
