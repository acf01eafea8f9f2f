"""A model whose input chooses its fate: ``celery -A tasks worker --model tests.toy:toy``.

The "image" is text: ``ok``, ``bad`` (invalid input), ``sleep 0.5``, ``exit`` (ends the process inside the forward
pass), ``error`` (fails every time), ``strange`` (its answer cannot be written down), ``flaky PATH n`` (fails n times,
counted in the file PATH), ``ran PATH`` (appends a line to PATH each time it is inferred), ``until PATH`` (runs until
there is a file PATH, a minute at most). Several orders may be joined by ``;``.

``tests.toy:photo`` takes any image; a forward pass takes TOY_BASE seconds (environment) and TOY_SECONDS for each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from settings import Settings
from worker_models.errors import InferenceFailed, UnsupportedImage

#: A GIF of one pixel up to its frame, which is all that the API looks at; orders follow it.
GIF = b"GIF89a\1\0\1\0 \0\0,\0\0\0\0\1\0\1\0;"


class Toy:
    name = "toy"
    version = "1"
    weights = "none"
    runtime = "python"
    device = "cpu"

    def decode(self, data: bytes) -> str:
        text = data.decode()
        if "bad" in text.split():
            raise UnsupportedImage("told to be bad")
        return text

    def infer(self, batch: Sequence[str]) -> Sequence[str]:
        for text in batch:
            for order in text.split(";"):
                _obey(order.split())
        return batch

    def predictions(self, output: str, top_k: int) -> list[dict[str, Any]]:
        if "strange" in output.split():
            return [{"class": object()}]
        return [{"class": output.replace(";", " ").split(maxsplit=1)[0], "index": 0, "confidence": 1.0}][:top_k]

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass


def _obey(order: list[str]) -> None:
    match order:
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["exit"]:
            os._exit(1)
        case ["error"]:
            raise InferenceFailed("told to fail")
        case ["flaky", path, times]:
            if _append(path) <= int(times):
                raise InferenceFailed("told to fail for now")
        case ["ran", path]:
            _append(path)
        case ["until", path]:
            _await(Path(path))


def _append(path: str) -> int:
    """Write one line; how many lines there are now."""
    with Path(path).open("a") as file:
        file.write(f"{time.time()} {os.getpid()}\n")
    return len(Path(path).read_text().splitlines())


def _await(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def toy(_settings: Settings) -> Toy:
    return Toy()


class Photo(Toy):
    """Looks at no image, only takes its time."""

    name = "photo"

    def __init__(self, seconds: float, base: float) -> None:
        self._seconds = seconds
        self._base = base

    def decode(self, data: bytes) -> str:
        return f"{len(data)}-bytes"

    def infer(self, batch: Sequence[str]) -> Sequence[str]:
        time.sleep(self._base + self._seconds * len(batch))
        return batch


def photo(_settings: Settings) -> Photo:
    return Photo(float(os.environ.get("TOY_SECONDS", "0.05")), float(os.environ.get("TOY_BASE", "0")))
