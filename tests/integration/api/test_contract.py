"""Schemathesis over the whole OpenAPI document, against the real API with a real model: all checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import Stack

MODEL = "efficientnet_lite0"
#: More for a long run: SCHEMATHESIS_EXAMPLES=100 pytest tests/integration/api/test_contract.py
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "8"))
TIMEOUT = 280 + 60 * EXAMPLES  # seconds; on a crowded machine

#: What a schema cannot say: which bytes are an image. So a call that conforms may be refused, though never with 500;
#: 503 and 504 are documented answers about load and deadlines.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
# Whatever stands in a part of a form is a file, and one that is no image fails alone in a batch.
[[operations]]
include-name = "POST /batch_inference"
checks.negative_data_rejection.expected-statuses = ["200", "202", "4xx", "5xx"]
"""


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 60)
def test_no_answer_breaks_the_published_contract(stack: Stack, tmp_path: Path) -> None:
    stack.start_worker(MODEL, name="lite0-1", MODELS=MODEL, timeout=180)
    api = stack.start_api(MODELS=MODEL, MAX_WAIT=2, AUTH="on", ADMIN_KEY="boss")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{api.url}/openapi.json",
        "--header", "Authorization: Bearer boss", "--max-examples", str(EXAMPLES), "--continue-on-failure",
        "--request-timeout", "20", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases, done.stdout[-2000:]
    assert int(cases[1]) > (2000 if EXAMPLES >= 100 else 500)
    assert api.alive
    print(done.stdout[-3000:])  # noqa: T201 - the number of cases, with -s
