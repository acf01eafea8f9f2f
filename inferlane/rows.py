"""The output file of ``classify``: one row per photo, CSV or JSON lines, which a later run continues.

A row is written the moment its photo has ended, so a killed run loses at most a half-written last line. Opening the
file again keeps the rows that need no second run: the answers, and the failures that would repeat.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from inferlane.answers import Outcome

FIELDS = (
    "path", "status", "label", "index", "confidence", "model", "weights", "request_id", "seconds", "error_code",
    "error", "retryable", "predictions",
)  # fmt: skip
FORMATS = ("csv", "jsonl")
_NUMBERS = {"index": int, "confidence": float, "seconds": float}


class ForeignFile(ValueError):
    """The file exists and holds something else; the message names it."""


def row_of(outcome: Outcome) -> dict[str, Any]:
    """The row for how a photo ended."""
    row = dict.fromkeys(FIELDS) | {"path": str(outcome.source), "status": "failed"}
    if (error := outcome.error) is not None:
        return row | {
            "error_code": error.code,
            "error": str(error),
            "retryable": error.retryable,
            "request_id": error.request_id,
        }
    result = outcome.unwrap()
    classes = [{"label": item.label, "index": item.index, "confidence": item.confidence} for item in result.predictions]
    return row | classes[0] | {
        "status": "succeeded",
        "model": result.model,
        "weights": result.weights,
        "request_id": result.request_id,
        "seconds": result.processing_time,
        "predictions": classes,
    }  # fmt: skip


def to_text(row: Mapping[str, Any], form: str) -> str:
    """``row`` as a line of a file of ``form``, with its line end."""
    if form == "jsonl":
        return json.dumps(row) + "\n"
    values = (row[name] for name in FIELDS)
    return _csv_line(json.dumps(value) if isinstance(value, bool | list) else value for value in values)


def _csv_line(cells: Iterable[Any]) -> str:
    """One line as RFC 4180 has it; with this line end the csv module quotes both characters of it in a cell."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()


def from_text(text: str, form: str) -> Iterator[dict[str, Any]]:
    """The whole rows in ``text``; a torn last one is left out.

    Raises:
        ForeignFile: this package did not write ``text``.
    """
    return _from_jsonl(text) if form == "jsonl" else _from_csv(text)


def _from_jsonl(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            return
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or set(row) != set(FIELDS):
            raise ForeignFile("a line is not a row of this package")
        yield row


def _from_csv(text: str) -> Iterator[dict[str, Any]]:
    header, *rows = csv.reader(io.StringIO(text, newline="")) if text else [FIELDS]
    torn = not text.endswith("\n")
    if tuple(header) != FIELDS:
        if torn and _csv_line(FIELDS).startswith(text):
            return
        raise ForeignFile("its first line does not name the columns")
    if rows and torn:
        rows.pop()
    yield from (_from_cells(dict(zip(FIELDS, cells, strict=True))) for cells in rows if len(cells) == len(FIELDS))


def _from_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {name: text or None for name, text in cells.items()}
    row |= {name: kind(cells[name]) for name, kind in _NUMBERS.items() if cells[name]}
    row["retryable"] = {"true": True, "false": False}.get(cells["retryable"])
    row["predictions"] = json.loads(cells["predictions"]) if cells["predictions"] else None
    return row


class RowFile:
    """Rows in a growing file, csv or jsonl; with ``resume`` it keeps the rows of an earlier run.

    ``done`` has the paths of the rows that were kept, of which ``failed`` are failures.

    Raises:
        ForeignFile: the file holds something else.
    """

    def __init__(self, path: Path, form: str, *, resume: bool = True) -> None:
        self._form = form
        self.done: set[str] = set()
        self.failed = 0
        _rewrite(path, form, self._counted(_kept(path, form)) if resume else ())
        self._file: TextIO = path.open("a", encoding="utf-8", errors="surrogateescape", newline="")

    def _counted(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """``rows``, counted one by one: all of them with their predictions would fill the memory."""
        for row in rows:
            self.done.add(row["path"])
            self.failed += row["status"] == "failed"
            yield row

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row and hand it to the operating system."""
        self._file.write(to_text(row, self._form))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kept(path: Path, form: str) -> Iterator[dict[str, Any]]:
    """The rows that need no second run: the answers, and the failures that would repeat."""
    if not path.exists():
        return
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        yield from (row for row in from_text(text, form) if row["status"] == "succeeded" or not row["retryable"])
    except (ForeignFile, csv.Error, KeyError, ValueError) as error:
        raise ForeignFile(
            f"{path} is not an output of this command and stays as it is ({error}); --fresh overwrites it"
        ) from None


def _rewrite(path: Path, form: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file atomically, so that no moment exists in which rows are lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.part")
    try:
        with fresh.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if form == "csv":
                file.write(_csv_line(FIELDS))
            file.writelines(to_text(row, form) for row in rows)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
