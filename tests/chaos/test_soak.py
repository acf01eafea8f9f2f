"""The short form of ``make chaos``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import soak


@pytest.mark.chaos
@pytest.mark.slow
def test_random_faults_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    report = soak.run(tmp_path, kills=6, requests=600, rate=40.0, seed=20261123)
    assert report.broken == []
    assert report.accepted >= 600
    assert report.recoveries
