"""Models of your own, done as docs/models.md shows: each has its name and its lane, and every command there works."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from scripts import probes
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.stack import Stack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
MODULES = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", DOCUMENT, re.DOTALL)
CAT = (ROOT / "docs" / "images" / "cat.png").read_bytes()
RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every module of the document, and weights for the flowers."""
    folder = tmp_path_factory.mktemp("examples")
    for name, source in MODULES:
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("flower_network", folder / "flower_network.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    torch.save(module.flower_network(3).state_dict(), folder / "flowers.pth")
    return folder


def classes(client: httpx.Client, model: str) -> tuple[str, set[str]]:
    answer = client.post("/inference", content=CAT, headers=RAW, params={"model_type": model})
    assert answer.status_code == 200, answer.text
    return answer.json()["model"], {guess["class"] for guess in answer.json()["predictions"]}


def test_two_models_of_your_own_answer_each_for_itself(stack: Stack, examples: Path) -> None:
    """Both used to register as ``factory``, shared one lane and answered each other's requests."""
    own = {"WEIGHTS_DIR": examples, "PYTHONPATH": examples}
    (command,) = re.findall(r"--model (\S+) -n", DOCUMENT)
    (renamed,) = re.findall(r"`--model (\S+=\S+)`", DOCUMENT)
    stack.start_worker(command, name="flowers-1", ready=False, **own)
    stack.start_worker(renamed, name="tulips-1", ready=False, **own)
    stack.start_worker("brightness_model:factory", name="bright-1", ready=False, **own)
    api = stack.start_api(MODELS="efficientnet_lite0")

    def live() -> set[str]:
        return {worker["model"] for worker in api.client.get("/workers/status").json().get("workers", ())}

    wait_until(lambda: live() == {"flowers", "tulips", "brightness"}, 120)
    for _ in range(3):
        assert classes(api.client, "brightness") == ("brightness", {"bright", "dark"})
        for name in ("flowers", "tulips"):
            assert classes(api.client, name) == (name, {"daisy", "rose", "tulip"})


class Installation:
    """An Inferlane that ``make start`` runs, with models of the document."""

    def __init__(self, folder: Path, examples: Path, models: str) -> None:
        ports = {f"{name}_PORT": free_port() for name in ("API", "DASHBOARD", "FLOWER")}
        self.stack = Stack("", folder, MODELS=models, PYTHONPATH=examples, WEIGHTS_DIR=examples, **ports)
        self.folder = folder

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scripts", *words]
        return subprocess.run(
            command, cwd=ROOT, env=self.stack.environ(), capture_output=True, text=True, timeout=240, check=False
        )


@pytest.fixture
def system(tmp_path: Path, examples: Path) -> Iterator[Installation]:
    found = Installation(tmp_path, examples, "brightness_model:factory,second=brightness_model:factory")
    yield found
    probes.end_own_processes(found.folder)


def test_make_start_runs_them_and_make_scale_knows_their_names(system: Installation) -> None:
    """MODELS=...,module:factory accepted requests that nobody served, and no command could name the model."""
    done = system.run("start", "--without", "dashboard", "--without", "flower")
    assert done.returncode == 0, done.stdout + done.stderr
    settings = system.stack.settings()
    assert probes.workers_seen(settings) == {"brightness-1", "second-1"}
    with httpx.Client(base_url=settings.base_url, timeout=40) as client:
        assert client.get("/health").json()["status"] == "healthy"
        for name in ("brightness", "second"):
            assert classes(client, name) == (name, {"bright", "dark"})
        refused = client.post("/inference", content=CAT, headers=RAW, params={"model_type": "factory"})
        assert refused.json()["code"] == "unknown_model"
    scaled = system.run("scale", "second=2")
    assert scaled.returncode == 0, scaled.stdout + scaled.stderr
    assert probes.workers_seen(settings) == {"brightness-1", "second-1", "second-2"}


def test_two_of_one_name_are_refused_in_one_line(tmp_path: Path, examples: Path) -> None:
    twice = Installation(tmp_path, examples, "brightness_model:factory,brightness=brightness_model:factory")
    done = twice.run("start")
    assert done.returncode == 1
    assert done.stderr.startswith("MODELS: two models are called brightness: name one of them")
    assert not probes.own_processes(twice.folder)
