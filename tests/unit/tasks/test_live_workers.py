"""What the API knows of workers is new also for callers that come while it is read."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from tasks.producer import live_workers
from tasks.producer.live_workers import LiveWorkers, QueueLoad
from tasks.protocol.keys import Keys


def test_after_a_pause_a_caller_waits_for_the_reading_that_another_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took what was true before the pause: the first requests for a model just started were refused."""
    monkeypatch.setattr(live_workers, "WAIT", 30.0)
    live, old, new, begun = LiveWorkers(Mock(), Keys("")), QueueLoad(), QueueLoad(), threading.Event()

    def read() -> QueueLoad:
        begun.set()
        time.sleep(0.05)
        return new

    monkeypatch.setattr(live, "_read", lambda: old)
    assert live.load() is old
    live._read_at -= 60
    monkeypatch.setattr(live, "_read", read)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(live.load)
        assert begun.wait(30)
        assert live.load() is new
        assert other.result() is new
