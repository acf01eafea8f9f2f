"""The lock of a run directory: one command at a time starts, changes or ends what runs there.

The kernel lets go of it when its holder ends, however it ends, so there is no stale lock.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Commands that end what runs: another one of them waits for them, everything else is ended by them.
ENDING = {"stop", "reset"}


class RunLockError(RuntimeError):
    """Another command holds the lock; the message says which."""


@contextmanager
def run_lock(folder: Path, command: str, timeout: float = 0.0) -> Iterator[None]:
    """Hold the lock of ``folder`` for the block.

    With a timeout, a start or a change that is under way is told to end, and its end awaited.

    Raises:
        RunLockError: another command holds it, and still does after ``timeout`` seconds.
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
    told = 0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid, command = _holder(file)
            if time.monotonic() >= deadline:
                raise RunLockError(
                    f"`make {command}` is under way here (process {pid}): wait until it ends, or `make stop`"
                ) from None
            if command not in ENDING and pid not in (0, told):
                told = pid
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)
        else:
            return


def _holder(file: TextIO) -> tuple[int, str]:
    """The process that holds the lock, and its command; 0 when it has not yet said so."""
    file.seek(0)
    pid, _, command = file.read().partition(" ")
    return int(pid or 0), command or "start"
