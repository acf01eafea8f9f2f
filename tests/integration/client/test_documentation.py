"""The examples of docs/client.md run as they stand, against a real API, worker and weights."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data

from inferlane.commands import COMMANDS
from inferlane.connection import DEFAULT_URL
from tests.support.processes import ROOT
from tests.support.stack import ApiProcess, Stack, WorkerProcess
from tests.support.waiting import wait_until

PAGE = (ROOT / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LINES = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
#: tests/e2e/test_readme.py runs those that start and stop processes.
REMOTE = [line for line in LINES if COMMANDS[line.partition("inferlane ")[2].split()[0]].remote]
MODEL = "efficientnet_lite0"
KEY = "the-administrators-key"


@pytest.fixture(scope="module")
def worker(module_stack: Stack) -> WorkerProcess:
    return module_stack.start_worker(MODEL, timeout=180, CHAOS_ENABLED=1, MAX_RETRIES=0)


@pytest.fixture(scope="module")
def api(module_stack: Stack, worker: WorkerProcess) -> ApiProcess:
    return module_stack.start_api(MODELS=MODEL, ADMIN_KEY=KEY, CHAOS_ENABLED=1)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rocket = Path(skimage.data.__file__).parent / "rocket.jpg"
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        shutil.copy(rocket, tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_python_examples_run(api: ApiProcess, photos: None, capsys: pytest.CaptureFixture[str], snippet: str) -> None:
    assert DEFAULT_URL in snippet
    exec(compile(snippet.replace(DEFAULT_URL, api.url), "docs/client.md", "exec"), {})  # noqa: S102 - our own page
    assert "missile" in capsys.readouterr().out


class Reader:
    """Types the lines of the page in their order; ``ID`` is what the last line that printed an id has named."""

    def __init__(self, api: ApiProcess, node: str, shims: Path) -> None:
        self._environ = {
            "PATH": f"{shims}:/usr/bin:/bin", "PYTHONPATH": str(ROOT),
            "INFERLANE_URL": api.url, "INFERLANE_API_KEY": KEY,
        }  # fmt: skip
        (shims / "inferlane").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m inferlane "$@"\n')
        (shims / "inferlane").chmod(0o755)
        self._here = {
            f"{MODEL}-1@host": node, "-r 50 -d 30": "-r 4 -d 1", "monitor": "monitor --times 1",
        }  # fmt: skip
        self._id = ""

    def type(self, line: str) -> str:
        """Run the line; what it prints."""
        for there, here in {**self._here, "ID": self._id}.items():
            line = re.sub(rf"(?<!\w){there}(?!\w)", here, line)
        done = subprocess.run(
            ["sh", "-ec", line], env=self._environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if " submit " in line or " --detach" in line:
            self._id = done.stdout.strip()
        return done.stdout

    def prepare(self, line: str) -> None:
        """Make what the line is about: a request that waits, or a dead letter."""
        if " cancel " in line:
            self.type(f"inferlane queues --pause normal.{MODEL}")
            self.type(f"inferlane submit photo.jpg -m {MODEL}")
        if " queues --pause" in line:
            self.type(f"inferlane queues --resume normal.{MODEL}")
        if " dead-letters show" in line:
            self.type(f"inferlane chaos error --model {MODEL}")
            wait_until(lambda: '"chaos": "error"' in self.type("inferlane workers --json"), 20, what="the fault")
            self.type("inferlane submit photo.jpg")
            wait_until(lambda: self._id in self.type("inferlane dead-letters"), 60, what="the dead letter")
        if " keys revoke" in line or " keys role" in line:
            self._id = json.loads(self.type("inferlane keys create bob --json"))["id"]


@pytest.mark.timeout(900)  # forty processes
def test_the_command_lines_run_in_their_order(
    api: ApiProcess, worker: WorkerProcess, photos: None, tmp_path: Path
) -> None:
    reader = Reader(api, worker.node, tmp_path)
    assert len(REMOTE) > 25
    reader.type("inferlane chaos off --all")  # a first run that failed may have left errors on
    for line in REMOTE:
        reader.prepare(line)
        reader.type(line)
