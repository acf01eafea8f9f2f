"""What the pages show with curl answers with a class, from a real API, worker and weights."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inferlane.address import DEFAULT_URL
from tests.support.processes import ROOT
from tests.support.stack import ApiProcess, Stack

MODEL = "efficientnet_lite0"
CAT = ROOT / "docs" / "images" / "cat.png"
#: A command and the lines that it goes on with, where the page shows a prompt or a block for the shell.
PROMPTED = re.compile(r"^\$ (.*(?:\n {2,}.*)*)", re.MULTILINE)


def commands(page: str) -> list[str]:
    """The commands of ``page`` that call curl."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    blocks += [command for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
               for command in PROMPTED.findall(block)]  # fmt: skip
    return [block for block in blocks if "curl " in block]


COMMANDS = [command for page in ("README.md", "docs/api.md") for command in commands(page)]


@pytest.fixture(scope="module")
def api(module_stack: Stack) -> ApiProcess:
    module_stack.start_worker(MODEL, timeout=180)
    return module_stack.start_api(MODELS=MODEL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader stands: a checkout, and a photo of their own of a usual size."""
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for name in ("docs/images/cat.png", "photo.jpg"):
        shutil.copy(CAT, tmp_path / name)
    return tmp_path


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_command_with_curl_is_answered(api: ApiProcess, folder: Path, command: str) -> None:
    assert DEFAULT_URL in command
    here = command.replace(DEFAULT_URL, api.url)
    done = subprocess.run(["sh", "-ec", here], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["index"] in range(281, 286), done.stdout
