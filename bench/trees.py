"""Process trees: started in a new session, measured as a whole, ended by process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


class Tree:
    """A command and everything it starts; what it prints goes to ``log``."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._popen = subprocess.Popen(
                list(command), cwd=ROOT, env=dict(environ), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.pid = self._popen.pid

    def check_alive(self) -> None:
        """Raise RuntimeError, with the end of what it printed, when the command itself has ended."""
        if self._popen.poll() is not None:
            end = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.log.stem} ended with {self._popen.returncode}:\n{end}")

    def stop(self, patience: float = 8.0) -> None:
        """SIGTERM to the command, then SIGKILL to whatever of its tree is still there after ``patience`` seconds."""
        known = family(self.pid)
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(patience)
        leftover = [process for process in known if _runs(process)]
        for process in leftover:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        psutil.wait_procs(leftover, timeout=5)
        self._popen.wait()


def end_on_sigterm() -> None:
    """Let SIGTERM unwind this process as Ctrl-C does, so that everything it started is ended."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def family(pid: int) -> list[psutil.Process]:
    """The process and everything below it; empty when it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these process trees so far."""
    total = 0.0
    for process in (member for pid in pids for member in family(pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def memory(pid: int) -> list[dict[str, float | str]]:
    """Resident and proportional MiB of each process of a tree, the largest first.

    Proportional (PSS) shares pages between the processes that map them, so a tree's sum counts nothing twice.
    """
    rows: list[dict[str, float | str]] = []
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            full = process.memory_full_info()
            rows.append(
                {
                    "process": process.name(),
                    "rss_mib": round(full.rss / 2**20, 1),
                    "pss_mib": round(full.pss / 2**20, 1),
                }
            )
    return sorted(rows, key=lambda row: row["rss_mib"], reverse=True)


def wait_for(condition: object, timeout: float, what: str, trees: Iterable[Tree] = ()) -> None:
    """Poll ``condition`` until it is true.

    Raises:
        TimeoutError: it was not within ``timeout`` seconds.
        RuntimeError: one of ``trees`` has ended meanwhile.
    """
    ends = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        for tree in trees:
            tree.check_alive()
        if time.monotonic() > ends:
            logs = "\n".join(tree.log.read_text(errors="replace")[-1500:] for tree in trees)
            raise TimeoutError(f"{what}: not within {timeout:.0f} s\n{logs}")
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
