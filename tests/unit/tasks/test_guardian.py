"""What a guardian makes of its worker's end, and the page they share."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tasks.worker import guardian
from tasks.worker.exits import HUNG, UNAVAILABLE
from tasks.worker.guardian import BY_ITSELF, LEFT, OTHERWISE, SERVING, STOPPING, Guardian, Pulse


@pytest.fixture
def descriptor() -> int:
    made = os.memfd_create("pulse")
    os.ftruncate(made, 4096)
    return made


def test_what_the_worker_writes_its_guardian_reads(descriptor: int) -> None:
    mine, theirs = Pulse(descriptor), Pulse(descriptor)
    before = time.monotonic()
    mine.begin("toy-1@host/0a1b2c3d")
    mine.beat(SERVING)
    mine.beat()
    moved, stage, boot = theirs.read()
    assert before <= moved <= time.monotonic()
    assert (stage, boot) == (SERVING, "toy-1@host/0a1b2c3d")
    mine.beat(LEFT)
    mine.beat(STOPPING)
    assert theirs.read()[1] == LEFT, "no stage comes twice"


@pytest.mark.parametrize(
    ("status", "stage", "verdict"),
    [
        (HUNG << 8, SERVING, BY_ITSELF),
        (1 << 8, SERVING, BY_ITSELF),
        (0, SERVING, BY_ITSELF),
        (1 << 8, STOPPING, OTHERWISE),
        (UNAVAILABLE << 8, SERVING, OTHERWISE),
        (signal.SIGSEGV, SERVING, BY_ITSELF),
        (signal.SIGABRT | 0x80, STOPPING, BY_ITSELF),
        (signal.SIGKILL, SERVING, OTHERWISE),
        (signal.SIGTERM, SERVING, OTHERWISE),
    ],
)
def test_a_death_is_the_workers_own_only_if_that_is_proven(
    status: int, stage: int, verdict: str, descriptor: int
) -> None:
    assert Guardian(1, descriptor, 2.0, 120.0).verdict(status, stage) == verdict


def test_a_kill_for_memory_is_the_workers_own(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Guardian(1, descriptor, 2.0, 120.0)
    monkeypatch.setattr(guardian, "_memory_kills", lambda: 7)
    assert watching.verdict(signal.SIGKILL, SERVING) == BY_ITSELF
    assert watching.verdict(signal.SIGTERM, SERVING) == OTHERWISE


def test_a_stopped_process_is_seen_as_frozen() -> None:
    child = os.fork()
    if not child:
        signal.pause()
    try:
        assert not guardian._frozen(child)
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        assert guardian._frozen(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not guardian._frozen(child)


def test_what_is_missing_is_not_frozen() -> None:
    assert not Path("/proc/999999999").exists()
    assert not guardian._frozen(999999999)
