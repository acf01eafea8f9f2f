from __future__ import annotations

from dashboard import series
from tests.unit.dashboard.samples import NOW, minute


def test_a_full_minute_counts_sixty_seconds_and_the_running_one_only_those_it_has_had() -> None:
    rows = series.throughput([minute(58, accepted=60, succeeded=30), minute(59, accepted=60, failed=3)], NOW)
    assert (rows[0]["in"], rows[0]["answered"]) == (1.0, 0.5)
    assert (rows[1]["in"], rows[1]["failed"]) == (2.0, 0.1)


def test_a_point_of_five_minutes_counts_five_minutes() -> None:
    early = minute(0, accepted=600)
    late = minute(55, accepted=270)
    rows = series.throughput([early, late], NOW, 5)
    assert [row["in"] for row in rows] == [2.0, 1.0]
    said = series.summaries([early, late], {}, {"throughput": rows, "latency": [], "split": []}, 5)
    assert said["throughput"] == "870 requests in the last 10 minutes, at most 2/s over 5 minutes."


def test_what_expired_counts_as_failed() -> None:
    assert series.throughput([minute(1, failed=30, expired=30)], NOW)[0]["failed"] == 1.0


def test_a_minute_without_answers_is_a_gap_not_a_zero() -> None:
    rows = series.latency([minute(1), minute(2, succeeded=2, total=0.1)])
    assert rows[0]["p95"] is None
    assert (rows[1]["p50"], rows[1]["p95"], rows[1]["p99"]) == (100.0, 200.0, 400.0)


def test_the_split_tells_waiting_from_inference() -> None:
    row = series.split([minute(2, succeeded=2, queue=0.05, infer=0.02)])[0]
    assert (row["queue"], row["infer"]) == (100.0, 40.0)


def test_the_pie_has_no_slices_of_nothing() -> None:
    slices = series.outcomes({"accepted": 5, "succeeded": 4, "failed": 1, "canceled": 0})
    assert [(slice_["name"], slice_["value"]) for slice_ in slices] == [("Succeeded", 4), ("Failed", 1)]


def test_every_chart_is_told_in_a_sentence() -> None:
    history = [minute(58, accepted=120, succeeded=118, failed=2, total=0.1, queue=0.05, infer=0.02)]
    ledger = {"succeeded": 3, "failed": 1}
    drawn = {
        "throughput": series.throughput(history, NOW),
        "latency": series.latency(history),
        "split": series.split(history),
    }
    said = series.summaries(history, ledger, drawn)
    assert said["throughput"] == "120 requests in the last 1 minute, at most 2/s."
    assert said["latency"] == "Last minute with answers: p50 100 ms, p95 200 ms, p99 400 ms. Worst p99: 400 ms."
    assert said["split"] == "95 of 100 waited at most 100 ms and were inferred within 40 ms."
    assert said["outcomes"] == "Of 4 requests: 3 succeeded, 1 failed (75 % succeeded)."


def test_empty_charts_say_that_they_are_empty() -> None:
    history = [minute(number) for number in range(15)]
    drawn = {
        "throughput": series.throughput(history, NOW),
        "latency": series.latency(history),
        "split": series.split(history),
    }
    said = series.summaries(history, {}, drawn)
    assert said["throughput"] == "No requests in the last 15 minutes."
    assert said["latency"] == "Nothing was answered in the last 15 minutes."
    assert said["outcomes"] == "No request has ended yet."
