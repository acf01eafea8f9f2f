from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferlane.answers import Outcome, Prediction, Result
from inferlane.errors import InvalidImage, Refused
from inferlane.rows import FIELDS, FORMATS, ForeignFile, RowFile, from_text, row_of, to_text

RESULT = Result(
    "id-1", (Prediction("tabby, cat", 281, 0.75), Prediction("lynx", 287, 0.2)), "m", "w", "x", 0.5, {}, 1, {}
)
GOOD = row_of(Outcome(0, "a.jpg", RESULT))
BAD = row_of(Outcome(1, "b.jpg", error=InvalidImage("no image")))
FULL = row_of(Outcome(2, "c.jpg", error=Refused("full")))
#: What a file name may hold, undecodable bytes (as lone surrogates) included.
NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\n\r\",;'\0"), min_size=1)


def written(form: str, *rows: dict[str, Any]) -> str:
    head = ",".join(FIELDS) + "\r\n" if form == "csv" else ""
    return head + "".join(to_text(row, form) for row in rows)


@pytest.mark.parametrize("form", FORMATS)
def test_rows_come_back_as_they_were_written(form: str) -> None:
    assert list(from_text(written(form, GOOD, BAD, FULL), form)) == [GOOD, BAD, FULL]


@pytest.mark.parametrize("form", FORMATS)
@given(name=NAMES.filter(lambda name: "\0" not in name))
def test_any_file_name_comes_back_as_it_was(form: str, name: str) -> None:
    text = written(form, GOOD | {"path": name}).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    assert [row["path"] for row in from_text(text, form)] == [name]


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
def test_a_file_cut_off_anywhere_gives_the_rows_that_are_whole(form: str, data: st.DataObject) -> None:
    text = written(form, GOOD, BAD, FULL)
    ends = [len(written(form, *rows)) for rows in ([GOOD], [GOOD, BAD], [GOOD, BAD, FULL])]
    cut = data.draw(st.integers(0, len(text)))
    assert list(from_text(text[:cut], form)) == [GOOD, BAD, FULL][: sum(end <= cut for end in ends)]


@pytest.mark.parametrize("form", FORMATS)
def test_what_may_go_better_next_time_is_taken_off_the_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"
    with RowFile(path, form) as file:
        for row in (GOOD, BAD, FULL):
            file.write(row)
    with RowFile(path, form) as file:
        assert (file.done, file.failed) == ({"a.jpg", "b.jpg"}, 1)
    assert list(from_text(path.read_text(), form)) == [GOOD, BAD]
    with RowFile(path, form, resume=False) as file:
        assert file.done == set()


@pytest.mark.parametrize("form", FORMATS)
def test_a_row_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path, form: str) -> None:
    with RowFile(tmp_path / "out", form) as file:
        file.write(GOOD)
        assert list(from_text((tmp_path / "out").read_text(), form)) == [GOOD]


@pytest.mark.parametrize(
    ("form", "text"),
    [(form, text) for form in FORMATS for text in ("my diary\n", "a,b,c\n1,2,3\n", '{"a": 1}\n')]
    + [("csv", "no line end")],
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, form: str, text: str) -> None:
    path = tmp_path / "out"
    path.write_text(text)
    with pytest.raises(ForeignFile, match="--fresh"):
        RowFile(path, form)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_csv_opens_in_other_programs() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", GOOD, BAD))))
    assert (rows[0]["label"], rows[0]["confidence"], rows[1]["error"]) == ("tabby, cat", "0.75", "no image")
