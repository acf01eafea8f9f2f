"""A model whose input chooses its fate: ``celery -A tasks worker --model tests.toy:toy``.

The "image" is text: ``ok``, ``bad`` (invalid input), ``sleep 0.5``, ``exit`` (ends the process inside the forward
pass), ``error`` (fails every time), ``strange`` (its answer cannot be written down), ``flaky PATH n`` (fails n times,
counted in the file PATH), ``ran PATH`` (appends a line to PATH each time it is inferred), ``until PATH`` (runs until
there is a file PATH, a minute at most). Several orders may be joined by ``;``.

What else a model may do, with ``in decode`` or ``in predictions`` behind it also there: ``quit`` (SystemExit),
``interrupt`` (KeyboardInterrupt), ``panic`` (raised is no ``Exception``, as Rust's are), ``mute`` (raised is what
cannot say what it is), ``hang``, ``gil 4`` (keeps Python's interpreter for four seconds), ``exit``, ``segfault``.
``nan``, ``infinity``, ``huge``: a confidence of that kind. ``many``: as many predictions as may be asked for.

``tests.toy:photo`` takes any image; a forward pass takes TOY_BASE seconds (environment) and TOY_SECONDS for each.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.settings import Settings
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
        _obey_all(text, "decode")
        return text

    def infer(self, batch: Sequence[str]) -> Sequence[str]:
        for text in batch:
            _obey_all(text)
        return batch

    def predictions(self, output: str, top_k: int) -> list[dict[str, Any]]:
        if "strange" in output.split():
            return [{"class": object()}]
        _obey_all(output, "predictions")
        first = output.replace(";", " ").split(maxsplit=1)[0]
        confidence = {"nan": math.nan, "infinity": math.inf, "huge": 1e300}.get(first, 1.0)
        number = 1000 if "many" in output.split(";") else 1
        return [{"class": first, "index": index, "confidence": confidence} for index in range(number)][:top_k]

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass


class Panic(BaseException):
    """What a panic in an extension written in Rust becomes."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def _obey_all(text: str, place: str = "infer") -> None:
    """Obey the orders that are meant for this place."""
    for order in text.split(";"):
        words, _, there = order.partition(" in ")
        if (there.strip() or "infer") == place:
            _obey(words.split())


RAISED = {
    "quit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "panic": Panic("told to panic"),
    "mute": MuteError(),
    "error": InferenceFailed("told to fail"),
}


def _obey(order: list[str]) -> None:
    if order and order[0] in RAISED:
        raise RAISED[order[0]]
    _act(order)
    _misbehave(order)


def _misbehave(order: list[str]) -> None:
    match order:
        case ["exit"]:
            os._exit(1)
        case ["hang"]:
            threading.Event().wait()
        case ["gil", seconds]:
            ctypes.PyDLL(None).usleep(int(float(seconds) * 1e6))
        case ["segfault"]:
            ctypes.string_at(0)


def _act(order: list[str]) -> None:
    match order:
        case ["sleep", seconds]:
            time.sleep(float(seconds))
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
