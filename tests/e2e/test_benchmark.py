"""The benchmark in its smallest form, on a model that only sleeps: every part runs, judges itself and leaves a report.

What it measures here means nothing; that it measures, and answers were checked on the way, is what is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.peers import catalog, environment
from bench.peers.__main__ import main as measure_peers

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--rounds", "1", "--seconds", "0.2", "--queued", "100", "--calls", "5", "--workers", "2", "--repeats", "1",
        "--overload-seconds", "2", "--minutes", "1", "--model", "tests.toy:photo"]  # fmt: skip


def run(part: str, results: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench", "--parts", part, *TINY, "--results", str(results)]
    environ = {**os.environ, "TOY_SECONDS": "0.002"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = results.glob("*.json")
    content: dict[str, Any] = json.loads(found.read_text())
    assert (results / "README.md").read_text().count("\n## ") == 1
    return content


def test_end_to_end_asks_in_every_way_and_sees_every_process(tmp_path: Path) -> None:
    found = run("end-to-end", tmp_path)
    assert (found["model"], found["weights"]) == ("photo", "none")
    ways = {record["way"]: record for record in found["records"] if "rate" in record}
    assert len(ways) == 6
    assert all(record["rate"] > 0 and record["core_ms"]["worker"] > 0 for record in ways.values())
    assert ways["batches of 32"]["answered"] % 32 == 0
    assert set(found["memory"]) == {"api", "redis", "worker"}
    assert all(row["rss_mib"] >= row["pss_mib"] > 1 for rows in found["memory"].values() for row in rows)
    assert len(found["verdicts"]) == 7


def test_overhead_splits_the_work_and_measures_bare_celery(tmp_path: Path) -> None:
    records = {record["way"]: record for record in run("overhead", tmp_path)["records"]}
    flask = records.pop("bare Flask, photo of 112 KB")
    assert flask["core_ms"]["api"] > 0
    assert set(records) == {"photo of 112 KB", "photo of 8 KB", "bare Celery, threads", "bare Celery, prefork"}
    assert set(records["photo of 8 KB"]["core_ms"]) == {"api", "redis", "worker"}
    assert all(record["core_ms"]["worker"] > 0 for record in records.values())


def test_growth_and_workers_leave_ratios(tmp_path: Path) -> None:
    (record,) = run("growth", tmp_path / "growth")["records"]
    assert record["length"] == 100
    assert 500 < record["bytes_each"] < 20_000, "with the buffers of a hundred; at length it is less than 2,048"
    assert all(record[what]["ratio"] > 0 for what in ("submit", "take", "/metrics"))
    rates = {record["workers"]: record["rate"] for record in run("workers", tmp_path / "workers")["records"]}
    assert set(rates) == {1, 2}


def test_an_overload_refuses_and_answers(tmp_path: Path) -> None:
    (record,) = run("overload", tmp_path)["records"]
    assert record["goodput"] > 0
    assert all(lane["answered"] > 0 for lane in record["lanes"].values())
    assert sum(lane["offered"] for lane in record["lanes"].values()) > 0
    assert not {what for what in record["refused"] if what.split()[-1] not in ("429", "503")}


def test_a_peer_is_started_measured_beside_inferlane_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask + Celery, whose packages this environment has but for gunicorn: Flask's own server stands in for it."""
    peer = catalog.peer("flask_celery")
    web = ("flask", "--app", "bench.peers.servers.celery_web", "run", "--port", "{port}")
    monkeypatch.setattr(catalog, "PEERS", (replace(peer, commands=(web, *peer.commands[1:])),))
    monkeypatch.setattr(environment, "prepare", lambda _: Path(sys.executable).parent)
    monkeypatch.setenv("TOY_SECONDS", "0.002")
    monkeypatch.chdir(ROOT)
    given = [
        "--model", "tests.toy:photo", "--peers", "flask_celery", "--no-quick-start", "--configurations", "1",
        "--rounds", "1", "--seconds", "0.5", "--warm", "0.2", "--minutes", "10", "--results", str(tmp_path),
    ]  # fmt: skip
    assert measure_peers(given) == 0
    found = json.loads((tmp_path / "peers-photo.json").read_text())
    measured = [record for record in found["records"] if "error" not in record]
    assert [record["system"] for record in measured] == ["inferlane", "flask_celery"]
    assert all(record["rate"] > 0 and len(record["memory"]) > 0 for record in measured)
    assert [record["system"] for record in found["records"] if "error" in record] == ["inferlane-fast"]
    assert "| Flask + Celery: 2 processes, prefetch 1 |" in (tmp_path / "peers-photo.md").read_text()
