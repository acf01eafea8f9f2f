"""The package stands alone: copied somewhere else, it works without the rest of the project."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

import inferlane
from inferlane.cli import command_line_parser, main, parsed
from inferlane.commands import COMMANDS
from tests.support.processes import ROOT

FOREIGN = (
    "common",
    "api",
    "tasks",
    "worker_models",
    "dashboard",
    "torch",
    "numpy",
    "flask",
    "celery",
    "redis",
)
LOADED = f"import sys, inferlane.cli; print(inferlane.__file__, sorted(set({FOREIGN!r}) & set(sys.modules)))"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "inferlane", tmp_path / "inferlane", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copy_of_the_folder_runs_by_itself(copy: Path) -> None:
    assert "classify" in python(copy, "-m", "inferlane", "--help")


def test_it_loads_nothing_of_the_server(copy: Path) -> None:
    assert python(copy, "-c", LOADED).strip() == f"{copy / 'inferlane' / '__init__.py'} []"


def test_pip_installs_the_package_and_its_command_and_nothing_of_the_server(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    source = tmp_path / "source"
    shutil.copytree(ROOT / "inferlane", source / "inferlane", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*build, tmp_path, source], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        text = "".join(archive.read(name).decode() for name in names if name.endswith(("METADATA", "entry_points.txt")))
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"inferlane"}
    assert {"inferlane/py.typed", "inferlane/commands/classify.py", "inferlane/templates/model.py.txt"} <= names
    assert "inferlane = inferlane.cli:main" in text
    assert sorted(re.findall(r"^Requires-Dist: (\w+)", text, re.MULTILINE)) == ["httpx", "rich"]


def test_its_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert inferlane.__version__ == project["version"]
    assert python(ROOT, "-m", "inferlane", "--version") == f"inferlane {project['version']}\n"


@pytest.mark.parametrize("command", ["start", "stop", "scale a=1", "demo", "serve ."])
def test_a_command_of_the_host_needs_a_checkout_and_says_so_in_a_line(copy: Path, command: str) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(copy)}
    words = [sys.executable, "-m", "inferlane", *command.split()]
    done = subprocess.run(words, cwd=copy, env=environ, capture_output=True, text=True, check=False)
    name = command.split(maxsplit=1)[0]
    line = f"inferlane {name}: needs a checkout of Inferlane on this host: run .venv/bin/inferlane in it\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_every_argument_of_every_command_is_explained() -> None:
    parsers = command_line_parser().get_default("parsers")
    assert set(parsers) == set(COMMANDS)
    unexplained = [(name, action.dest) for name, one in parsers.items() for action in one._actions if not action.help]
    assert unexplained == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_is_shown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: inferlane {command} [-h]" in capsys.readouterr().out


def test_options_may_stand_between_words_and_what_begins_with_a_dash_behind_two() -> None:
    for words in ("keys create --role admin ann", "keys --role admin create ann", "keys create ann --role admin"):
        given = parsed(words.split())
        assert (given.command, given.action, given.words, given.role) == ("keys", "create", ["ann"], "admin")
    assert parsed(["classify", "a.jpg", "-k", "2", "b.jpg"]).images == ["a.jpg", "b.jpg"]
    assert parsed(["get", "--", "-id"]).id == "-id"


def test_a_new_model_passes_its_own_test(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    for words in (["inferlane", "init", "big-sun"], ["unittest", "discover", "big-sun"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environ, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    for name in ("big-sun", "any", "3d", "a b"):
        assert subprocess.run([sys.executable, "-m", "inferlane", "init", name], cwd=tmp_path, env=environ, check=False,
                              capture_output=True).returncode == 2  # fmt: skip


#: What is typed, and what it becomes.
COMPLETED = {"cla": "classify", "chaos sl": "slow", "classify --pat": "--patience", "completion z": "zsh"}


def completion(shell: str) -> str:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = python(ROOT, "-m", "inferlane", "completion", shell)
    assert set(COMMANDS) <= set(re.findall(r"[a-z-]+", script))
    return script


def test_bash_completes_commands_options_and_values() -> None:
    script = completion("bash")
    for words, completed in COMPLETED.items():
        typed = f"COMP_WORDS=(inferlane {words}); COMP_CWORD={len(words.split())}; _inferlane; echo $COMPREPLY"
        shown = subprocess.run(["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True, check=True).stdout
        assert shown == f"{completed}\n"


def test_fish_completes_commands_options_and_values() -> None:
    script = completion("fish")
    for words, completed in COMPLETED.items():
        typed = ["fish", "--no-config", "-c", f"{script}\ncomplete -C 'inferlane {words}'"]
        assert subprocess.run(typed, capture_output=True, text=True, check=True).stdout == f"{completed}\n"


def test_zsh_completes_commands_options_and_values(tmp_path: Path) -> None:
    """At its prompt, in a terminal: completion does not run without one."""
    (tmp_path / "script").write_text(completion("zsh"))
    pid, terminal = pty.fork()
    if pid == 0:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb", "PS1": "> "}
        os.execvpe("zsh", ["zsh", "-f", "-i"], environ)  # noqa: S606 - no shell but this one
    try:
        os.write(terminal, f"source {tmp_path}/script; echo rea''dy\n".encode())
        read_until(terminal, "ready")
        for words, completed in COMPLETED.items():
            os.write(terminal, f"inferlane {words}\t".encode())
            read_until(terminal, f"{' '.join(['inferlane', *words.split()[:-1]])} {completed} ")
            os.write(terminal, b"\x15")  # Ctrl-U
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, text: str, seconds: float = 30) -> None:
    shown, until = b"", time.monotonic() + seconds
    while text.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"{text!r} is not in {shown!r}"
        shown += os.read(terminal, 65536)
