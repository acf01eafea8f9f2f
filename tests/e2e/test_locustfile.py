"""The locustfile, where Locust is installed (it is no requirement): a few seconds of it against a real system."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.support.processes import ROOT
from tests.support.stack import Stack

pytestmark = pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="locust is not installed")
MODEL = "efficientnet_lite0"


def locust(url: str) -> tuple[int, list[dict[str, object]]]:
    command = [
        sys.executable, "-m", "locust", "-f", str(ROOT / "tests" / "locustfile.py"), "-H", url, "--headless",
        "--users", "2", "--spawn-rate", "2", "--run-time", "4s", "--stop-timeout", "5", "--json", "--only-summary",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def test_locust_gets_right_answers(stack: Stack) -> None:
    stack.start_worker(MODEL, timeout=180)
    code, rows = locust(stack.start_api(MODELS=MODEL).url)
    assert code == 0
    assert sum(int(str(row["num_requests"])) for row in rows) > 0
    assert sum(int(str(row["num_failures"])) for row in rows) == 0


def test_locust_calls_a_wrong_answer_a_failure(stack: Stack) -> None:
    stack.start_worker("tests.toy:photo", TOY_SECONDS=0.01)
    code, rows = locust(stack.start_api(MODELS="photo").url)
    assert code == 1
    assert sum(int(str(row["num_failures"])) for row in rows) == sum(int(str(row["num_requests"])) for row in rows) > 0
