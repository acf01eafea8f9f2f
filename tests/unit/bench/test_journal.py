"""A benchmark that was interrupted goes on where it stopped, and never with numbers of other code."""

from __future__ import annotations

from pathlib import Path

from bench.journal import Journal


def test_what_is_there_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    Journal(path, stamp="a").measure(lambda: {"rate": 1.0}, way="x", round=0)
    again = Journal(path, resume=True, stamp="a")
    assert again.measure(lambda: {"rate": 2.0}, way="x", round=0)["rate"] == 1.0
    assert again.measure(lambda: {"rate": 3.0}, way="x", round=1)["rate"] == 3.0
    assert [record["rate"] for record in Journal(path, resume=True, stamp="a")] == [1.0, 3.0]


def test_records_of_another_stamp_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    Journal(path, stamp="old").measure(lambda: {"rate": 1.0}, way="x")
    assert list(Journal(path, resume=True, stamp="new")) == []


def test_without_resuming_it_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    Journal(path).measure(lambda: {"rate": 1.0}, way="x")
    assert list(Journal(path)) == []
    assert path.read_text() == ""


def test_a_line_cut_short_by_the_end_of_the_process_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    Journal(path).measure(lambda: {"rate": 1.0}, way="x")
    path.write_text(path.read_text() + '{"way": "y", "ra')
    assert [record["way"] for record in Journal(path, resume=True)] == ["x"]


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    Journal(path).measure(lambda: {"error": "it ended"}, way="x")
    assert Journal(path, resume=True).measure(lambda: {"rate": 1.0}, way="x") == {"way": "x", "rate": 1.0}
