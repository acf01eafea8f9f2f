"""Every command line of the deployment leads somewhere, and the cheap ones are run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from common.settings import Settings, variables
from scripts import flower
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until
from tests.unit.deploy.commands import COMMANDS, distinct, normal
from tests.unit.deploy.files import ROOT, compose, pods, vscode
from worker_models.registry import REGISTRY

TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_commands_start_known_programs_only() -> None:
    known = {"api", "dashboard", "celery", "pytest", "worker_models", "python"}
    known |= {"scripts.alive", "scripts.broker", "scripts.flower"}
    assert {normal(command)[0] for command in COMMANDS.values()} <= known
    assert all(find_spec(name) for name in known - {"python"})


@pytest.mark.parametrize(("program", "path"), [("api", "/livez"), ("dashboard", "/livez")])
def test_a_server_starts_by_its_name_and_answers(program: str, path: str, tmp_path: Path) -> None:
    assert distinct(program) == [(program,)]
    port = free_port()
    environ = {key: value for key, value in os.environ.items() if key not in variables()}
    environ |= dict.fromkeys(variables(), "") | {f"{program.upper()}_PORT": str(port)}
    server = Process([sys.executable, "-m", program], name=program, folder=tmp_path, environ=environ)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}{path}"), 30, what=f"{program} answers")
    finally:
        server.stop()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


WORKERS = [command for command in distinct("celery") if "worker" in command]


@pytest.mark.parametrize("command", WORKERS, ids=" ".join)
def test_a_worker_serves_a_model_we_have_under_a_name_of_its_host(command: tuple[str, ...]) -> None:
    model = command[command.index("--model") + 1]
    assert model in REGISTRY
    assert re.fullmatch(rf"{model}(-\w+)?@%h", command[command.index("-n") + 1])


@pytest.mark.parametrize("options", [*{(*(w for w in c if w.startswith("-")),) for c in WORKERS}, ("-A", "--unheard")])
def test_celery_knows_every_option_of_a_worker(options: tuple[str, ...]) -> None:
    """Celery complains of options it does not know before it shows its help."""
    values = {"-A": ["tasks", "worker"], "--model": ["resnet18"], "-n": ["a@%h"], "-P": ["threads"]}
    words = [word for option in options for word in (option, *values.get(option, []))]
    done = subprocess.run(
        [sys.executable, "-m", "celery", *words, "--help"], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == (2 if "--unheard" in options else 0), done.stderr


def test_flower_knows_the_options_it_is_started_with() -> None:
    from flower.options import options

    given = {
        word.removeprefix("--").partition("=")[0] for word in flower.command(Settings(), "127.0.0.1") if "--" in word
    }
    assert given == {"address", "port", "enable_events", "read_only"}
    assert given <= {name.replace("-", "_") for name in options.as_dict()}


@pytest.mark.parametrize(
    "command", [*distinct("scripts.alive"), *distinct("scripts.flower"), *distinct("worker_models")], ids=" ".join
)
def test_modules_of_ours_know_their_options(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("command", distinct("python"), ids=lambda command: command[-1][:60])
def test_one_liners_are_python(command: tuple[str, ...]) -> None:
    assert command[1] == "-c"
    ast.parse(command[2])


def test_tasks_of_the_editor_run_targets_that_exist() -> None:
    commands = [task["command"].split() for task in vscode("tasks.json")["tasks"]]
    assert all(words[0] == "make" and set(words[1:]) <= TARGETS for words in commands)


def test_the_full_system_of_the_editor_starts_every_line_of_the_procfile() -> None:
    launch = vscode("launch.json")
    (full,) = [item for item in launch["compounds"] if item["name"] == "Full System"]
    there = {item["name"] for item in launch["configurations"]}
    assert set(full["configurations"]) <= there
    lines = re.findall(r"^(\w+):", (ROOT / "Procfile").read_text(), re.MULTILINE)
    started = [name.lower().partition(":")[0] for name in full["configurations"]]
    assert sorted(started) == sorted(lines)


def test_the_editor_offers_every_model() -> None:
    (choice,) = vscode("launch.json")["inputs"]
    assert set(choice["options"]) == set(REGISTRY)


def test_every_model_has_a_service_and_a_deployment_of_its_own() -> None:
    for name in REGISTRY:
        dashed = name.replace("_", "-")
        command = compose()["services"][f"worker-{dashed}"]["command"]
        assert command[command.index("--model") + 1] == name
        command = pods()[f"inferlane-worker-{dashed}"]["spec"]["containers"][0]["command"]
        assert command[command.index("--model") + 1] == name


def make(target: str, tmp_path: Path, docker: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``make target`` on a host whose ``docker`` is the shell script given."""
    fake = tmp_path / "docker"
    fake.write_text(f"#!/bin/sh\n{docker}\n")
    fake.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    for name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS"):  # `make test` is a make around this one
        environ.pop(name, None)
    return subprocess.run(
        ["make", "--no-print-directory", target, "VENV=/nonexistent", *arguments],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


DOCKER = ["docker-build", "docker-up", "docker-down", "docker-logs", "docker-ps"]


@pytest.mark.parametrize("target", DOCKER)
def test_without_docker_make_says_so_in_one_line(target: str, tmp_path: Path) -> None:
    done = make(target, tmp_path, "exit 1")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert said == ["docker compose is not installed here: see docs/deploying.md"]


def test_make_hands_the_profiles_to_compose(tmp_path: Path) -> None:
    done = make("docker-up", tmp_path, 'echo "$@"', "PROFILES=observability cuda")
    assert done.stdout.splitlines() == ["compose --profile observability --profile cuda up --detach --wait"]
