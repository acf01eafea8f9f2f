"""What README.md and docs/api.md show works as it stands there, with a real API, worker and weights."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from api.input.bodies import INFERENCE_BODY
from inferlane.connection import DEFAULT_URL
from tests.support.pages import Example, examples, fresh_shell, snippets
from tests.support.processes import ROOT
from tests.support.stack import ApiProcess, Stack

MODEL = "efficientnet_lite0"
CAT = ROOT / "docs" / "images" / "cat.png"
PAGES = ("README.md", "docs/api.md")
COMMANDS = [one.command for page in PAGES for one in examples(page) if "curl " in one.command]
ADMIN = "an administrator's key"
OTHERS = [one for one in examples("docs/api.md") if "curl " not in one.command]
SNIPPETS = [text for page in PAGES for text in snippets(page) if DEFAULT_URL.removeprefix("http://") in text]


@pytest.fixture(scope="module")
def api(module_stack: Stack) -> ApiProcess:
    module_stack.start_worker(MODEL, timeout=180)
    return module_stack.start_api(MODELS=MODEL)


@pytest.fixture(scope="module")
def admin_api(module_stack: Stack) -> ApiProcess:
    return module_stack.start_api(MODELS=MODEL, ADMIN_KEY=ADMIN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder: a checkout, and a photo of average size."""
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for name in ("docs/images/cat.png", "photo.jpg"):
        shutil.copy(CAT, tmp_path / name)
    return tmp_path


def test_the_example_of_the_api_documentation_is_a_cat(api: ApiProcess) -> None:
    answer = api.client.post("/inference", json=INFERENCE_BODY["content"]["application/json"]["example"])
    assert answer.json()["predictions"][0]["index"] in range(281, 286), answer.text


def test_there_are_examples() -> None:
    assert len(COMMANDS) >= 4
    assert len(SNIPPETS) >= 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_command_with_curl_is_answered(api: ApiProcess, folder: Path, command: str) -> None:
    assert DEFAULT_URL in command
    here = command.replace(DEFAULT_URL, api.url)
    done = subprocess.run(["sh", "-ec", here], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["index"] in range(281, 286), done.stdout


@pytest.mark.filterwarnings("default")  # tritonclient and gevent warn about themselves
@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_an_example_in_python_says_that_the_cat_is_one(
    api: ApiProcess, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], snippet: str
) -> None:
    if "tritonclient" in snippet:
        pytest.importorskip("tritonclient.http")
    monkeypatch.chdir(folder)
    here = snippet.replace(DEFAULT_URL.removeprefix("http://"), api.url.removeprefix("http://"))
    exec(compile(here, "example", "exec"), {})  # noqa: S102 - our own page
    assert "cat" in capsys.readouterr().out


@pytest.mark.parametrize("example", OTHERS, ids=lambda example: example.command)
def test_any_other_command_prints_what_the_page_says(
    module_stack: Stack, admin_api: ApiProcess, tmp_path: Path, example: Example
) -> None:
    said = {"INFERLANE_URL": admin_api.url, "INFERLANE_API_KEY": ADMIN}
    shell = fresh_shell(module_stack.environ(), tmp_path) | said
    done = subprocess.run(
        ["sh", "-ec", example.command], cwd=ROOT, env=shell, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert example.prints
    assert example.is_printed(done.stdout), done.stdout


def test_the_key_that_is_printed_opens_the_api(module_stack: Stack, tmp_path: Path) -> None:
    shell = fresh_shell(module_stack.environ(), tmp_path)
    (command,) = (example.command for example in OTHERS if "api.http.api_keys" in example.command)
    said = subprocess.run(["sh", "-ec", command], cwd=ROOT, env=shell, capture_output=True, text=True, check=True)
    key, entry = (line.split()[-1] for line in said.stdout.splitlines())
    client = module_stack.start_api(API_KEYS=entry).client
    assert client.get("/models").status_code == 401
    assert client.get("/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    refused = subprocess.run(
        ["sh", "-ec", f"{command}s"], cwd=ROOT, env=shell, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
