"""A process of the project, started for a test, which never outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A running command in its own process group and the folder ``root``; what it prints goes to ``log_file``."""

    def __init__(
        self, command: Sequence[str], *, name: str, folder: Path, environ: Mapping[str, str], root: Path = ROOT
    ) -> None:
        self.name = name
        self.log_file = _new_file(folder, name)
        with self.log_file.open("wb") as out:
            self._popen = subprocess.Popen(
                list(command), cwd=root, env=dict(environ), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        return self.returncode is None

    def log(self, lines: int = 40) -> str:
        """The last ``lines`` lines it printed."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def check_alive(self) -> None:
        """Raise when it has ended, with what it printed."""
        if not self.alive:
            raise AssertionError(f"{self.name} ended with {self.returncode}:\n{self.log()}")

    def send(self, number: int) -> None:
        """Send a signal to the process itself, not to its children."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the process and its children, then reap it."""
        self._signal_group(signal.SIGKILL)
        self._popen.wait()

    def wait(self, timeout: float) -> int:
        """Its exit code; raises ``subprocess.TimeoutExpired`` when it runs on."""
        return self._popen.wait(timeout)

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, then SIGKILL to what is left of its group after ``timeout`` seconds; returns the exit code."""
        if self.alive:
            with suppress(ProcessLookupError):
                self.send(signal.SIGCONT)  # a test may have paused it
            self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            print(f"{self.name} ignored SIGTERM for {timeout} s:\n{self.log()}", file=sys.stderr)  # noqa: T201
        self._signal_group(signal.SIGKILL)
        return self._popen.wait()

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return


def _new_file(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob(f"{name}.*.log")))
    return folder / f"{name}.{number}.log"
