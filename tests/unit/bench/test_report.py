"""Reports are made from results files alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import charts, report
from bench.facts import RESULTS
from bench.parts import end_to_end, growth, overhead, overload, storm, workers

FACTS = {
    "at": "2026-01-01T00:00Z", "commit": "abc", "command": "python -m bench", "photo_bytes": 112_525,
    "machine": {"cores": 2, "cpu": "x", "memory_gib": 4, "kernel": "6", "load_before": 0.1, "python": "3.11"},
    "versions": {"celery": "5.7.0"},
}  # fmt: skip


def one(rate: float, **core_ms: float) -> dict[str, Any]:
    return {"rate": rate, "p50_ms": 14.0, "p99_ms": 30.0, "core_ms": core_ms, "caller_core_ms": 0.5}


def way(name: str, rate: float, **more: Any) -> dict[str, Any]:
    run = one(rate, api=2.0, redis=0.5, worker=15.5) | {"p50_ms": 21.0}
    return {"way": name, "round": 0, "share": rate / 100, "limit": [one(100, limit=15.0)] * 2, **run, **more}


def end_to_end_report() -> dict[str, Any]:
    process = {"process": "python", "rss_mib": 90.0, "pss_mib": 60.0}
    memory = {"redis": [process], "api": [process], "worker": [process | {"rss_mib": 360.0}]}
    records = [way(name, 80.0) for name in end_to_end.WAYS] + [{"way": "memory", "memory": memory}]
    return FACTS | {"model": "mobilenet", "weights": "x.pth", "memory": memory, "records": records}


def timed(ratio: float) -> dict[str, Any]:
    return {"grown": {"median": ratio, "p90": ratio}, "reference": {"median": 1.0, "p90": 1.0}, "ratio": ratio}


def growth_report() -> dict[str, Any]:
    calls = {"submit": 1.1, "take": 1.3, "/health": 1.0, "/metrics": 1.05}
    records = [
        {"length": length, "bytes_each": 2000.0, **{name: timed(ratio) for name, ratio in calls.items()}}
        for length in (100, 1000)
    ]
    return FACTS | {"image_bytes": 1000, "records": records}


def workers_report() -> dict[str, Any]:
    records = [
        {"workers": n, "round": number, "rate": 2.0 * n * share, "core_ms": {"worker": 4.0, "redis": 1.0}}
        for n, share in ((1, 1.0), (2, 0.97), (16, 0.85))
        for number in (0, 1)
    ]
    return FACTS | {"sleep": 0.5, "records": records, "worker_memory": {"rss_mib": 60.0, "pss_mib": 40.0}}


def overload_report() -> dict[str, Any]:
    lanes = {
        priority: {"offered": 10, "answered": 9, "p50_ms": 90.0, "p99_ms": 300.0}
        for priority in ("high", "normal", "low")
    }
    record = {
        "seconds": 10.0, "offered": 160.0, "goodput": 78.0, "refused": {"low 429": 3}, "late_p99_ms": 3.0,
        "cores": {"redis": 0.1, "worker": 1.5, "api": 0.3, "callers": 0.05},
        "lanes": lanes,
        "windows": [{"high": 5, "normal": 3, "low": 0}, *[{"high": 5, "normal": 3, "low": 1}] * 9],
    }  # fmt: skip
    alone, capacity = one(50) | {"p50_ms": 20.0}, [one(79), one(81)]
    return FACTS | {
        "model": "mobilenet", "weights": "random", "alone": alone, "capacity": capacity, "max_batch": 16,
        "records": [record],
    }  # fmt: skip


def overhead_report() -> dict[str, Any]:
    cost = {
        overhead.PHOTO_WAY: {"api": 3.9, "redis": 1.6, "worker": 2.8},
        overhead.FLASK_WAY: {"api": 1.5},
        "bare Celery, threads": {"worker": 3.0, "redis": 1.0},
    }
    return FACTS | {"records": [{"way": name, "round": 0, **one(200, **values)} for name, values in cost.items()]}


def results(verdicts: list[Any]) -> dict[str, str]:
    return {verdict.target: verdict.result for verdict in verdicts}


def test_end_to_end_is_judged_by_shares_added_delay_and_added_work() -> None:
    found = results(end_to_end.judge(end_to_end_report()))
    assert found["mobilenet: single requests, 16 callers, of the limit"] == "missed by 0.10"
    assert found["mobilenet: one caller, p50 above the bare pipeline"] == "missed by 3.00 ms"
    assert found["mobilenet: bare pipeline"].startswith("missed by")
    assert found["mobilenet: whole path above the bare pipeline"] == "reached"
    other = results(end_to_end.judge(end_to_end_report() | {"model": "resnet18"}))
    assert "resnet18: bare pipeline" not in other, "13 core-ms were meant for mobilenet"
    assert found["mobilenet: worker process, resident"] == "missed by 10.0 MiB"


def test_growth_is_judged_at_the_longest_queue_by_its_slowest_route() -> None:
    found = results(growth.judge(growth_report()))
    assert found["1,000 queued: take, of with 100"] == "missed by 0.10 x"
    assert found["1,000 queued: Redis memory of a request, its image in a file"] == "reached"
    assert found["1,000 queued: Redis memory of all"] == "reached"
    assert any("(/metrics)" in target for target in found)


def test_workers_are_judged_against_the_median_of_one() -> None:
    assert workers.ratios(workers_report())[2].median == pytest.approx(1.94)
    found = results(workers.judge(workers_report()))
    assert found["2 workers on sleeping work, of one"] == "reached"
    assert "missed" in found["16 workers on sleeping work, of one"]


def test_an_overload_is_judged_by_three_service_times_and_one_batch() -> None:
    assert overload.bound_ms(overload_report()) == pytest.approx(3 * 20 + 1000 * 16 / 80)
    found = results(overload.judge(overload_report()))
    assert "missed by 40.0" in found["mobilenet: 2x overload, high p99"]
    assert found["mobilenet: 2x overload, low answered in each tenth of the time"] == "reached"
    assert found["mobilenet: 2x overload, goodput, of capacity"] == "reached"


def test_low_that_stands_still_for_a_tenth_of_the_time_is_seen() -> None:
    made = overload_report()
    made["records"][0]["windows"][5] = {"high": 5, "normal": 4, "low": 0}
    assert "missed" in results(overload.judge(made))["mobilenet: 2x overload, low answered in each tenth of the time"]


def test_the_mix_is_sent_evenly_and_is_the_same_each_time() -> None:
    shots = list(storm.schedule(100, 10))
    assert len(shots) == 1000
    assert shots == list(storm.schedule(100, 10))
    assert [at for at, _ in shots[:3]] == [0.0, 0.01, 0.02]
    high = sum(priority == "high" for _, priority in shots)
    assert high == pytest.approx(200, abs=40)


def folder_of_results(folder: Path) -> Path:
    made = {
        "end-to-end-mobilenet": end_to_end_report(), "overhead": overhead_report(), "growth": growth_report(),
        "workers": workers_report(), "overload-mobilenet": overload_report(),
    }  # fmt: skip
    for stem, content in made.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder


def test_every_part_renders_its_tables_its_targets_and_a_chart(tmp_path: Path) -> None:
    report.write(folder_of_results(tmp_path))
    text = (tmp_path / "README.md").read_text()
    for title in (
        "End to end: mobilenet",
        "What the queue costs",
        "A long queue",
        "More workers",
        "Twice the capacity",
    ):
        assert f"\n## {title}" in text
    assert "| photo of 112 KB | 3.90 | 1.60 | 2.80 |" in text
    assert "| bare Flask, photo of 112 KB | 1.50 |  |  |" in text
    assert "| bare Celery, threads | 0.50 | 1.00 | 3.00 |" in text
    assert "| no-op model: API, of bare Flask | ≤ 3.00 x | 2.60 x | reached |" in text
    assert "missed by" in text
    for stem in ("end-to-end-mobilenet", "growth", "workers", "overload-mobilenet"):
        assert (tmp_path / f"{stem}.svg").read_text().startswith("<?xml")
        assert f"({stem}.svg)" in text


def test_the_page_gets_all_targets_in_one_table(tmp_path: Path) -> None:
    text = report.targets(folder_of_results(tmp_path))
    assert text.count("\n| ---") == 1
    assert sum(line.startswith("| mobilenet: ") for line in text.splitlines()) == 8 + 3
    assert "Nothing has been measured" in report.targets(tmp_path / "empty")


def test_the_block_of_a_page_is_replaced_and_nothing_else() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.replaced(page, "new\n") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="needs one"):
        report.replaced("no marks", "new")


def test_the_committed_report_names_the_commit_the_command_and_the_machine_of_each_part() -> None:
    for section in (RESULTS / "README.md").read_text().split("\n## ")[1:]:
        told = r"See \[peers-|Measured \S+ at commit `\w+\+?` on \d+ cores .* Command: `python -m bench"
        assert re.search(told, section), section


def test_equal_numbers_make_equal_charts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        charts.bars(tmp_path / name, "title", "share", [("Inferlane", 0.9, 0.8, 1.0)], highlight="Inferlane", line=1.0)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_workers_rate_is_free_of_where_the_window_cuts_its_work() -> None:
    regular = [0.1 + 0.5 * n for n in range(30)]
    assert workers.steady(regular, 2.0, 6.0) == pytest.approx(2.0)
    assert workers.steady(regular, 2.3, 5.9) == pytest.approx(2.0)


def test_a_worker_that_stands_still_at_the_end_or_all_the_time_is_not_flattered() -> None:
    stopped = [0.1 + 0.5 * n for n in range(8)]
    assert workers.steady(stopped, 2.0, 8.0) == pytest.approx(4 / (8.0 - 1.6))
    assert workers.steady(stopped, 5.0, 8.0) == 0.0
