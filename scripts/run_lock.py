"""The lock of a run directory: one command at a time starts, changes or ends its processes.

The kernel releases it when its holder ends, so there is no stale lock.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from scripts.programs import OperationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Commands that end the processes: they end any other command that holds the lock, and wait for each other.
ENDING = {"stop", "reset"}


@contextmanager
def run_lock(folder: Path, command: str, timeout: float = 0.0) -> Iterator[None]:
    """Hold the lock of ``folder`` for the block.

    With a timeout, a start or a change under way gets SIGTERM, and its end is awaited.

    Raises:
        OperationError: another command still holds it after ``timeout`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        _lock(file, timeout)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {command}")
        file.flush()
        yield


def _lock(file: TextIO, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    signaled = 0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid, command = _holder(file)
            if time.monotonic() >= deadline:
                raise OperationError(
                    f"`make {command}` is under way here (process {pid}): wait until it ends, or `make stop`"
                ) from None
            if command not in ENDING and pid not in (0, signaled):
                signaled = pid
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)
        else:
            return


def _holder(file: TextIO) -> tuple[int, str]:
    """The process that holds the lock, and its command; 0 before it has written them."""
    file.seek(0)
    pid, _, command = file.read().partition(" ")
    return int(pid or 0), command or "start"
