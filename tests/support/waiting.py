"""Polling with a deadline: the only way tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.02, what: str = "") -> T:
    """The first truthy value of ``condition()``.

    Raises:
        TimeoutError: none within ``timeout`` seconds; says what was awaited and the last value.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or condition} not within {timeout} s; last value {value!r}")
        time.sleep(interval)
    return value
