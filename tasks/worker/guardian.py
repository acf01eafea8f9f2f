"""The guardian: each worker's small parent process, which renews its lease when it cannot and knows how it died.

A worker forks right after its start. The child goes on as the worker; the parent becomes this program and stays small.

* It passes signals on and exits with the worker's status, so that it is invisible to a supervisor.
* A model that holds the interpreter lock blocks the worker's lease thread. The guardian renews the lease then, for
  HARD_TIMEOUT at most, unless the worker is stopped: a frozen worker must lose its lease.
* It records how the worker ended and returns its requests at once. A death counts against a request only if the worker
  ended *by itself*: by an exit, by a fault such as a segmentation fault, or killed by the kernel for its memory. A
  SIGKILL from outside proves nothing.
* When the guardian dies, the kernel kills the worker. The cause is then unknown, and no request is blamed.

It needs Linux; elsewhere a worker runs without. The two share a page of memory (:class:`Pulse`). Until something is
wrong the guardian needs neither Redis nor installed packages, and imports none.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.worker.exits import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.settings import Settings

#: Seconds between checks of the worker.
LOOK = 0.2
#: Environment variable of a worker that has a guardian: its pid and the file descriptor of the shared page.
VARIABLE = "INFERLANE_GUARDIAN"
#: Signals that are passed on to the worker.
PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
#: Signals that stop a worker.
STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
#: Signals of faults of the process itself.
OWN_FAULT = {
    signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP,
}  # fmt: skip
#: Recorded causes of a death.
BY_ITSELF, OTHERWISE = "itself", "otherwise"
#: Stages of a worker: not registered, registered, stopping, unregistered.
STARTING, SERVING, STOPPING, LEFT = range(4)

_PAGE = 4096
_HEAD = struct.Struct("<dBH")
_PR_SET_PDEATHSIG = 1


class Pulse:
    """The page shared by worker and guardian: time of the last beat, stage, boot id."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, _PAGE)
        self._stage = STARTING
        self._length = 0

    def begin(self, boot: str) -> None:
        """Set the boot id of a starting worker."""
        name = boot.encode()
        self._page[_HEAD.size : _HEAD.size + len(name)] = name
        self._stage = STARTING
        _HEAD.pack_into(self._page, 0, time.monotonic(), STARTING, len(name))
        self._length = len(name)

    def beat(self, stage: int | None = None) -> None:
        """Record a beat, and perhaps a later stage."""
        self._stage = max(self._stage, self._stage if stage is None else stage)
        _HEAD.pack_into(self._page, 0, time.monotonic(), self._stage, self._length)

    def read(self) -> tuple[float, int, str]:
        """Time of the last beat (monotonic clock), stage, and boot id."""
        moved, stage, length = _HEAD.unpack_from(self._page, 0)
        return moved, stage, self._page[_HEAD.size : _HEAD.size + length].decode()


def guard(boot: str, model: str, settings: Settings) -> Pulse | None:
    """Fork: the child is the worker, with its pulse; the parent becomes the guardian. None where that is unsupported.

    Call it before the process has threads. A worker that Celery restarts in place (SIGHUP) keeps its guardian.
    """
    if not hasattr(signal, "sigtimedwait") or not hasattr(os, "memfd_create"):
        return None
    parent, _, inherited = os.environ.get(VARIABLE, "").partition(":")
    if parent == str(os.getppid()):
        pulse = Pulse(os.open(f"/proc/{parent}/fd/{inherited}", os.O_RDWR))  # Celery closed its own before the restart
        pulse.begin(boot)
        return pulse
    descriptor = os.memfd_create("inferlane-pulse", 0)  # stays open over an exec
    os.ftruncate(descriptor, _PAGE)
    pulse = Pulse(descriptor)
    pulse.begin(boot)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    parent_id = os.getpid()
    child = os.fork()
    if child:
        _become_guardian(child, descriptor, model, settings)
    os.setpgid(0, 0)  # Ctrl-C in a terminal is for the guardian, which passes it on, once
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_id:
        os._exit(UNAVAILABLE)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.environ[VARIABLE] = f"{parent_id}:{descriptor}"
    return pulse


def _become_guardian(child: int, descriptor: int, model: str, settings: Settings) -> None:
    """A fresh interpreter takes a fifth of the memory of one that has loaded Celery."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    own = ":" in model  # only a custom model may hold the interpreter lock for long: be quick then
    words = [child, descriptor, settings.lease_ttl, settings.hard_timeout, int(own), *sys.argv[1:]]
    os.execve(sys.executable, [sys.executable, "-m", __name__, *map(str, words)], environ)  # noqa: S606 - ourselves


class Guardian:
    """Watches one worker until it ends."""

    def __init__(self, child: int, descriptor: int, lease_ttl: float, hard_timeout: float) -> None:
        self._child = child
        self._pulse = Pulse(descriptor)
        self._late = lease_ttl / 5
        self._hard_timeout = hard_timeout
        self._told_to_stop = False
        self._overdue = False
        self._memory_kills = _memory_kills()

    def watch(self) -> int:
        """Pass signals on and watch the worker until it has ended; its wait status."""
        while True:
            caught = signal.sigtimedwait(PASSED_ON | {signal.SIGCHLD}, LOOK)
            if caught is not None and caught.si_signo != signal.SIGCHLD:
                self._told_to_stop |= caught.si_signo in STOPS
                os.kill(self._child, caught.si_signo)
            if (status := self._ended()) is not None:
                return status
            self._look()

    def conclude(self, status: int) -> None:
        """Record how the worker ended and return its deliveries, unless it has unregistered itself."""
        _, stage, boot = self._pulse.read()
        if stage in {STARTING, LEFT}:
            return
        verdict = self.verdict(status, stage)
        from tasks.worker import watching

        watching.bury(boot, verdict, describe(status))

    def verdict(self, status: int, stage: int) -> str:
        """Whether the worker ended by itself."""
        if self._overdue:
            return BY_ITSELF
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            starved = number == signal.SIGKILL and _memory_kills() > self._memory_kills
            return BY_ITSELF if number in OWN_FAULT or starved else OTHERWISE
        stopped = self._told_to_stop or stage == STOPPING
        return OTHERWISE if stopped or os.WEXITSTATUS(status) == UNAVAILABLE else BY_ITSELF

    def _ended(self) -> int | None:
        """The worker's wait status; orphans that a guardian inherits as a container's first process are reaped, too."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == self._child:
                return status
            if pid == 0:
                return None

    def _look(self) -> None:
        moved, stage, boot = self._pulse.read()
        late = time.monotonic() - moved
        if stage not in {SERVING, STOPPING} or late < self._late or _frozen(self._child):
            return
        from tasks.worker import watching

        if late > self._hard_timeout:
            self._overdue = True
            watching.say(f"worker {boot} has not moved for more than HARD_TIMEOUT: it is killed")
            os.kill(self._child, signal.SIGKILL)
        else:
            watching.renew(boot)


def describe(status: int) -> str:
    """How a process ended, for people."""
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.WEXITSTATUS(status)}"


def _frozen(pid: int) -> bool:
    """Whether the process is stopped, by SIGSTOP or a debugger."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in {"T", "t"}


def _memory_kills() -> int:
    from worker_models.machine import memory_kills

    return memory_kills()


def end_as(status: int) -> None:
    """End as a process with this wait status has ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker has dumped its core already
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # the first process of a container survives its own signals
    os._exit(os.WEXITSTATUS(status))


def main(words: Sequence[str]) -> None:
    """Command line: the worker's pid, the shared page, LEASE_TTL, HARD_TIMEOUT, whether to be quick; its own."""
    child, descriptor = int(words[0]), int(words[1])
    guardian = Guardian(child, descriptor, float(words[2]), float(words[3]))
    if words[4] == "1":
        from tasks.worker import watching  # noqa: F401 - takes half a second, which is not there when the lease runs out
    status = guardian.watch()
    guardian.conclude(status)
    end_as(status)


if __name__ == "__main__":
    main(sys.argv[1:])
