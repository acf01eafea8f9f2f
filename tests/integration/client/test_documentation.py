"""The examples of docs/client.md run as they stand, against a real API, worker and weights."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import skimage.data

from inferlane.cli import command_line_parser
from inferlane.commands import COMMANDS
from inferlane.connection import DEFAULT_URL
from tests.support.processes import ROOT
from tests.support.stack import ApiProcess, Stack

PAGE = (ROOT / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LINES = re.findall(r"^\$ (?:.*\| )?inferlane (.*)$", PAGE, re.MULTILINE)
MODEL = "efficientnet_lite0"


@pytest.fixture(scope="module")
def api(module_stack: Stack) -> ApiProcess:
    module_stack.start_worker(MODEL, timeout=180)
    return module_stack.start_api(MODELS=MODEL)


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


@pytest.mark.parametrize("line", LINES)
def test_command_line_examples_are_understood(line: str) -> None:
    assert command_line_parser().parse_args(shlex.split(line)).command in COMMANDS


def test_every_command_is_on_the_page() -> None:
    assert {line.split()[0] for line in LINES} == set(COMMANDS)
