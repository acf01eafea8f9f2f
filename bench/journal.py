"""Measurements on disk as they are made, one JSON object a line, so that an interrupted run can resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """The records of one part of the benchmark.

    Args:
        path: the file; its folder is made.
        resume: keep the records, except those of an ``error``. Otherwise the journal starts empty.
        stamp: what must be equal for old records to count, for example the options and the commit.
    """

    def __init__(self, path: Path, *, resume: bool = False, stamp: str = "") -> None:
        self._path = path
        self._stamp = stamp
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records = _read(path, stamp) if resume and path.exists() else []
        lines = (json.dumps({"stamp": stamp, **record}) + "\n" for record in self._records)
        path.write_text("".join(lines))

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, **key: Any) -> Record | None:
        """The first record that has these values."""
        return next((r for r in self._records if all(r.get(name) == value for name, value in key.items())), None)

    def measure(self, measurement: Callable[[], Record], **key: Any) -> Record:
        """The record under ``key``: the one that is there, or what ``measurement`` returns now."""
        found = self.find(**key)
        if found is not None:
            return found
        record = {**key, **measurement()}
        self._records.append(record)
        with self._path.open("a") as file:
            file.write(json.dumps({"stamp": self._stamp, **record}) + "\n")
        return record


def _read(path: Path, stamp: str) -> list[Record]:
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the line that was being written when the benchmark was ended
        if record.pop("stamp", None) == stamp and "error" not in record:
            records.append(record)
    return records
