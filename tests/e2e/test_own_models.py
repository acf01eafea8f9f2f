"""docs/models.md, done as it stands there in a fresh shell: every command, every module, every model answers."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from scripts import probes
from tests.support.pages import examples, fresh_shell, snippets
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from worker_models.registry import describe
from worker_models.torch_runtime import build

pytestmark = pytest.mark.slow

PAGE = "docs/models.md"
PREPARE, WORKER, START, SCALE = examples(PAGE)
(RENAMED,) = re.findall(r"`(--model \S+=\S+)`", (ROOT / PAGE).read_text(encoding="utf-8"))
CAT = (ROOT / "docs" / "images" / "cat.png").read_bytes()
RAW = {"Content-Type": "image/png"}
KEY = "the-key-of-the-administrator"
FLOWERS, LIGHT = {"daisy", "rose", "tulip"}, {"bright", "dark"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every module of the page, and weights for the flowers."""
    folder = tmp_path_factory.mktemp("examples")
    for name, source in (re.fullmatch(r"# (\w+)\.py\n(.*)", text, re.DOTALL).groups() for text in snippets(PAGE)):  # type: ignore[union-attr]
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("flower_network", folder / "flower_network.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    torch.save(module.flower_network(3).state_dict(), folder / "flowers.pth")
    return folder


def run(line: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Type a line into a shell."""
    return subprocess.run(
        ["sh", "-ec", line], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240, check=False
    )


def classes(client: httpx.Client, model: str) -> tuple[str, set[str]]:
    answer = client.post("/inference", content=CAT, headers=RAW, params={"model_type": model})
    assert answer.status_code == 200, answer.text
    return answer.json()["model"], {guess["class"] for guess in answer.json()["predictions"]}


def test_preparing_says_what_the_page_says(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    network = build(describe("mobilenet"), None).network  # the same weights each time: their graph is exported once
    torch.save(network.state_dict(), weights / "mobilenet.pth")
    nowhere = {"https_proxy": "http://127.0.0.1:1", "TORCH_HOME": tmp_path / "torch"}
    models = "efficientnet_lite0,mobilenet,resnet18"
    stack = Stack("", tmp_path, MODELS=models, WEIGHTS_DIR=weights, WEIGHTS_TIMEOUT=2)
    done = run(PREPARE.command, fresh_shell(stack.environ() | {k: str(v) for k, v in nowhere.items()}, tmp_path))
    assert done.returncode == 0, done.stderr
    said = done.stdout.replace(str(weights), "weights")
    assert PREPARE.is_printed(said), said


def test_workers_of_your_own_models_answer_each_for_itself(stack: Stack, folder: Path) -> None:
    """All used to register as ``factory``, shared one lane and answered each other's requests."""
    environ = fresh_shell(stack.environ(WEIGHTS_DIR=folder, PYTHONPATH=folder), stack.folder)
    renamed = re.sub(r"--model \S+ -n flowers", f"{RENAMED} -n tulips", WORKER.command)
    other = WORKER.command.replace("flower_model", "brightness_model").replace("-n flowers", "-n brightness")
    processes = [
        Process(["sh", "-ec", f"exec {line}"], name=f"own-{number}", folder=stack.folder, environ=environ)
        for number, line in enumerate((WORKER.command, renamed, other))
    ]
    try:
        api = stack.start_api(MODELS="efficientnet_lite0")

        def live() -> set[str]:
            for process in processes:
                process.check_alive()
            return {worker["model"] for worker in api.client.get("/workers/status").json().get("workers", ())}

        wait_until(lambda: live() == {"flowers", "tulips", "brightness"}, 120)
        for _ in range(3):
            assert classes(api.client, "brightness") == ("brightness", LIGHT)
            assert classes(api.client, "flowers") == ("flowers", FLOWERS)
            assert classes(api.client, "tulips") == ("tulips", FLOWERS)
    finally:
        for process in processes:
            process.stop()


@pytest.fixture
def installation(tmp_path: Path, folder: Path) -> Iterator[Stack]:
    """Nothing runs yet; whatever was started ends."""
    ports = {f"{name}_PORT": free_port() for name in ("API", "DASHBOARD", "FLOWER")}
    yield Stack("", tmp_path, PYTHONPATH=folder, WEIGHTS_DIR=folder, ADMIN_KEY=KEY, **ports)
    probes.end_own_processes(tmp_path)


def test_make_start_runs_them_and_make_scale_knows_their_names(installation: Stack, folder: Path) -> None:
    """MODELS=...,module:factory accepted requests that nobody served, and no command could name the model."""
    shell = fresh_shell(installation.environ(), installation.folder)
    started = run(START.command, shell)
    assert started.returncode == 0, started.stdout + started.stderr
    settings = installation.settings()
    assert probes.workers_seen(settings) == {"efficientnet_lite0-1", "flowers-1", "tulips-1"}
    with httpx.Client(base_url=settings.base_url, timeout=40) as client:
        assert client.get("/health").json()["status"] == "healthy"
        assert classes(client, "flowers") == ("flowers", FLOWERS)
        assert classes(client, "tulips") == ("tulips", FLOWERS)
        assert any("cat" in name for name in classes(client, "efficientnet_lite0")[1])
        refused = client.post("/inference", content=CAT, headers=RAW, params={"model_type": "factory"})
        assert refused.json()["code"] == "unknown_model"
    scaled = run(SCALE.command, shell)
    assert scaled.returncode == 0, scaled.stdout + scaled.stderr
    assert probes.workers_seen(settings) == {"efficientnet_lite0-1", "flowers-1", "flowers-2", "tulips-1"}
    weights = folder / "flowers.pth"
    weights.rename(away := folder / "away.pth")
    try:  # a worker that cannot start
        with httpx.Client(base_url=settings.base_url, timeout=40, headers={"Authorization": f"Bearer {KEY}"}) as admin:
            order = admin.post("/admin/models/flowers/scale", json={"workers": 3})
        again = run("python -m scripts scale flowers=3 --json", shell)
    finally:
        away.rename(weights)
    assert (order.status_code, order.json()["code"]) == (500, "scale_failed"), order.text
    for text in (order.json()["detail"], json.loads(again.stdout)["error"]["message"]):
        assert "worker-flowers-3" in text
        assert "no weights for flowers" in text


def test_serve_starts_the_system_and_serves_a_new_model_under_its_name(installation: Stack) -> None:
    environ = installation.environ()
    model = installation.folder / "sunny"
    command = [sys.executable, "-m", "inferlane"]
    subprocess.run(
        [*command, "init", "sunny"], cwd=installation.folder, env=environ | {"PYTHONPATH": str(ROOT)}, check=True
    )
    serve = Process([*command, "serve", str(model)], name="serve", folder=installation.folder, environ=environ)
    settings = installation.settings()
    try:
        with httpx.Client(base_url=settings.base_url, timeout=40) as client:
            wait_until(lambda: probes.workers_seen(settings), 120, what="its worker has a lease")
            assert classes(client, "sunny") == ("sunny", LIGHT)
            assert client.get("/health").json()["status"] == "healthy"
        serve.send(signal.SIGINT)
        assert serve.wait(30) == 1, serve.log()  # as Celery ends after Ctrl-C
    finally:
        serve.stop()
    stopped = subprocess.run([*command, "stop"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert (stopped.returncode, stopped.stdout) == (0, "Inferlane is stopped.\n"), stopped.stderr
    assert not probes.own_processes(installation.folder)


def test_two_of_one_name_are_refused_in_one_line(installation: Stack) -> None:
    shell = fresh_shell(installation.environ(), installation.folder)
    done = run("MODELS=flower_model:factory,flowers=flower_model:factory python -m scripts start", shell)
    assert done.returncode == 1
    assert done.stderr.startswith("MODELS: two models are called flowers: name one of them")
    assert not probes.own_processes(installation.folder)
