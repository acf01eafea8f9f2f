"""The commands of the README, the usual ones of docs/operating.md and those of docs/client.md that start and stop
processes, in order, in a fresh shell in a fresh copy."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scripts import probes
from tests.support.locks import locked
from tests.support.ports import free_port
from tests.support.processes import ROOT

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
#: The first commands of docs/operating.md.
USUAL = (ROOT / "docs" / "operating.md").read_text().partition("## ")[0]
#: The commands of docs/client.md for the host of a checkout, which find the command as the README says.
HOST = re.findall(r"```console\n(\$ inferlane start.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)[0]
#: What the README has to say about stock Celery.
CELERY_FACT = 'python -c "from kombu.transport.redis import Channel; print(Channel.visibility_timeout)"'

#: What is not run here, and why.
EXEMPT = {
    "make test": "it is what runs this test",
    "make resilience": "tests/test_resilience.py runs with the other tests",
    "make quick-demo": "tests/e2e/test_demo.py runs it",
    "make recording": "it changes a picture of the documentation; tests/unit/test_recording.py looks at it",
    "make benchmark-peers": "it installs other servers and measures for a quarter of an hour",
    "make chaos": "it kills workers for minutes; `make test` has the short form",
    CELERY_FACT: "run below",
}
#: Commands that go on until they are interrupted, and what they show by then.
ENDLESS = {"make monitor": "efficientnet_lite0", "make logs": "api", ".venv/bin/inferlane serve ./sunny": "Ask it"}
#: A model whose weights need no internet.
MODEL = "efficientnet_lite0"


def blocks() -> list[tuple[str, str]]:
    """Language and text of each piece of code."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```", README + USUAL, re.DOTALL | re.MULTILINE)
    return [*found, ("sh", HOST.replace("$ inferlane", ".venv/bin/inferlane"))]


def commands(block: str) -> list[str]:
    """The commands of a piece of shell: without comments, and with the lines that they go on to."""
    joined = re.sub(r"(\\|\|)\n\s*", lambda found: "| " if found[1] == "|" else "", block)
    return [line.partition("  #")[0].strip() for line in joined.splitlines() if line.strip()]


def in_the_text() -> set[str]:
    """Commands that the text names."""
    prose = re.sub(r"^```.*?^```", "", README + USUAL, flags=re.DOTALL | re.MULTILINE)
    found = {" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose)}
    return {words for words in found if re.match(r"(\w+=\S+ )?(make|python|curl|celery|inferlane) ", words)}


def test_every_command_of_the_text_is_run_or_exempt() -> None:
    run = {command for language, block in blocks() if language == "sh" for command in commands(block)}
    assert in_the_text() - run - set(EXEMPT) == {"make help"}
    assert set(ENDLESS) <= run
    assert set(EXEMPT) <= run | in_the_text()


def test_stock_celery_redelivers_after_the_time_that_the_readme_gives() -> None:
    words = shlex.split(CELERY_FACT)[1:]
    shown = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout.strip()
    assert f"else redelivered after {shown} s" in README


class Copy:
    """A copy of the working tree in which everything is installed, and what a fresh shell has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "shared")
        shutil.copytree(ROOT, folder, ignore=hidden, symlinks=True)
        self._install()
        ports = {f"{name}_PORT": str(free_port()) for name in ("API", "DASHBOARD", "FLOWER")}
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        cache = {"MODELS": MODEL, "MODEL_CACHE_DIR": str(ROOT / ".cache" / "models")}
        self.environ = {**kept, "PATH": os.defpath, **ports, **cache}

    def _install(self) -> None:
        """What scripts/setup.sh has done already: installing takes minutes, and CI does it."""
        venv = self.folder / ".venv"
        venv.mkdir()
        (venv / "bin").mkdir()
        installed = [*Path(sys.prefix).iterdir(), *(Path(sys.prefix) / "bin").iterdir()]
        for item in installed:
            if item.name not in {"bin", "inferlane"} and not item.name.endswith(".lock"):
                (venv / item.relative_to(sys.prefix)).symlink_to(item)
        for group in ("host", "dev"):
            (venv / f".{group}.lock").write_text(locked(group))

    def here(self, text: str) -> str:
        """A command or a program of the README with this copy's ports."""
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.environ['API_PORT']}")

    def run(self, *words: str, timeout: float = 240) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def follow(self, command: str, until: str) -> str:
        """Run a command in a terminal until it has shown this, then press Ctrl-C; all that it showed."""
        pid, terminal = pty.fork()
        if not pid:
            os.chdir(self.folder)
            os.execve("/bin/bash", ["bash", "-c", command], self.environ | {"TERM": "xterm"})  # noqa: S606
        shown = bytearray()
        deadline = time.monotonic() + 60
        interrupted = False
        try:
            while (more := read_from(terminal, deadline)) != b"":
                shown += more
                if until.encode() in shown and not interrupted:
                    interrupted = True
                    os.write(terminal, b"\x03")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)
        assert interrupted, f"{command} did not show {until}: {shown.decode(errors='replace')}"
        assert time.monotonic() < deadline, f"{command} did not end: {shown.decode(errors='replace')}"
        return shown.decode(errors="replace")


def read_from(terminal: int, deadline: float) -> bytes:
    """What a terminal shows next; empty when its program has ended, or at the deadline."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    try:
        return os.read(terminal, 4096) if ready else b""
    except OSError:  # Linux' way to say that the program has ended
        return b""


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path / "copy of inferlane")
    yield made
    probes.end_own_processes(made.folder / ".run", grace=2.0)


@pytest.mark.timeout(600)
def test_the_commands_of_the_readme_work_in_their_order(copy: Copy) -> None:
    said = {}
    for language, block in blocks():
        if language == "python":
            said["python"] = copy.run(".venv/bin/python", "-c", copy.here(block))
            continue
        for command in commands(block):
            if command in ENDLESS:
                assert "Traceback" not in copy.follow(command, ENDLESS[command])
            elif command not in EXEMPT:
                said[command] = copy.run("bash", "-c", f"set -o pipefail; {copy.here(command)}")
    assert "cat" in said["make demo"]
    assert "random" not in said["make demo"]
    assert next(text for command, text in said.items() if command.startswith("curl")).count('"succeeded"')
    assert said["python"].strip()
    assert "login: operator, password" in said["make demo"]
    last = said["make demo"].partition("Inferlane is up.")[2].splitlines()
    assert len(last) < 22
    assert {"  .venv/bin/inferlane classify docs/images/coffee.jpg"} <= set(last)
    assert said["make status"].count("RUNNING") == 7  # three workers beside the others
    assert probes.own_processes(copy.folder / ".run") == []
    assert "demo" in copy.run("make", "help")
