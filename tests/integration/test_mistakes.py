"""The typical mistakes of a first day: each real command says in one line, within three seconds, what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inferlane.commands import COMMANDS
from scripts import probes
from scripts.system import run_lock
from tests.support.ports import free_port
from tests.support.processes import ROOT, Process
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

SOON = 3.0  # seconds
INFERLANE = [sys.executable, "-m", "inferlane"]
BUSY = 4.0  # how much longer it may take here, where other tests share the cores


class Said:
    """What a command wrote, line by line, how it ended, and after how many seconds."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str]) -> None:
        began = time.monotonic()
        done = subprocess.run(
            words, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        self.took = time.monotonic() - began
        self.code, self.lines = done.returncode, done.stdout.splitlines()

    def expect(self, *parts: str, code: int = 1) -> None:
        """One of the lines has all ``parts``, it came soon, and nothing is a traceback."""
        assert [line for line in self.lines if all(part in line for part in parts)], self.lines
        assert not [line for line in self.lines if "Traceback" in line]
        assert len(self.lines) <= 3, self.lines
        assert self.code == code
        assert self.took < SOON * BUSY, self.took


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    ports = {f"{name}_PORT": free_port() for name in ("API", "DASHBOARD", "FLOWER", "REDIS")}
    return Stack("", tmp_path / "run", MODELS="efficientnet_lite0", **ports)


def test_a_port_that_is_taken(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        Said([*INFERLANE, "start"], stack.environ(API_PORT=port)).expect(f"port {port} is taken", "set API_PORT")
    assert not probes.own_processes(stack.folder)


def test_a_wrong_folder_of_weights(stack: Stack, tmp_path: Path) -> None:
    wrong = tmp_path / "wieghts"
    said = Said([*INFERLANE, "start"], stack.environ(WEIGHTS_DIR=wrong))
    said.expect("efficientnet_lite0", f"WEIGHTS_DIR: {wrong} is no folder", "correct it, or unset it")


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", b"PK\x03\x04 and no more", b""])
def test_corrupt_weights(stack: Stack, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "efficientnet_lite0.pth"
    file.write_bytes(content)
    said = Said([*INFERLANE, "start"], stack.environ(WEIGHTS_DIR=tmp_path))
    said.expect(f"{file} is damaged", "copy it again")


def test_no_python(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "awk", "cat"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    environ = {"PATH": str(tmp_path), "VENV": str(tmp_path / "venv")}
    said = Said(["bash", "scripts/setup.sh"], environ)
    said.expect("needs Python 3.11, 3.12", "PYTHON=/path/to/python3 make setup")


@pytest.mark.parametrize("command", ["start", "stop", "scale efficientnet_lite0=1"])
def test_the_folder_of_another_user(stack: Stack, command: str) -> None:
    """A folder without permissions; root loses the capability to ignore them."""
    humble = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if humble and not shutil.which("setpriv"):
        pytest.skip("root needs setpriv (util-linux) to be refused anything")
    stack.folder.mkdir(exist_ok=True)
    stack.folder.chmod(0)
    try:
        said = Said([*humble, *INFERLANE, *command.split()], stack.environ())
    finally:
        stack.folder.chmod(0o700)
    said.expect("RUN_DIR: ", "Permission denied", "set it to a folder that you may write to")


def test_two_starts(stack: Stack) -> None:
    with run_lock(stack.folder, "start"):
        said = Said([*INFERLANE, "start", "--json"], stack.environ())
    said.expect("`make start` is under way here", "wait until it ends")
    assert json.loads(said.lines[-1])["error"]["retryable"]


def test_ctrl_c(tmp_path: Path, free_port: int) -> None:
    """A command that waits ends at once, without a traceback, with the code that shells know."""
    photo = ROOT / "docs" / "images" / "coffee.jpg"
    words = [*INFERLANE, "classify", str(photo), "--patience", "60", "--url", f"http://127.0.0.1:{free_port}"]
    waiting = Process(words, name="classify", folder=tmp_path, environ=os.environ)
    try:
        wait_until(lambda: "nothing answers" in waiting.log())
        began = time.monotonic()
        waiting.send(signal.SIGINT)
        assert waiting.wait(10) == 130
    finally:
        waiting.stop()
    assert time.monotonic() - began < SOON
    assert len(waiting.log().splitlines()) == 1, waiting.log()


#: Every command that asks the API.
REMOTE = [
    "classify PHOTO", "submit PHOTO", "batch PHOTO", "load PHOTO -d 1", "get ID", "cancel ID", "watch ID", "list",
    "status", "metrics", "queues", "workers", "models", "monitor --times 1", "dead-letters", "chaos", "keys", "audit",
    "doctor",
]  # fmt: skip


def each(commands: Sequence[str], url: str, *more: str, processes: int = 2) -> dict[str, Said]:
    """What the commands say, some of them at a time; a key is given that no API knows."""
    environ = os.environ | {"INFERLANE_URL": url, "INFERLANE_API_KEY": "old"}

    def say(command: str) -> Said:
        words = command.replace("PHOTO", str(ROOT / "docs" / "images" / "coffee.jpg")).split()
        return Said([*INFERLANE, *words, *more], environ)

    with ThreadPoolExecutor(processes) as pool:
        return dict(zip(commands, pool.map(say, commands), strict=True))


def test_the_list_has_every_command_that_asks_the_api() -> None:
    assert {line.split()[0] for line in REMOTE} == {name for name in COMMANDS if COMMANDS[name].remote}


def test_a_stale_key(module_stack: Stack) -> None:
    api: ApiProcess = module_stack.start_api(MODELS="toy", AUTH="on", ADMIN_KEY="new")
    for command, said in each([line for line in REMOTE if line != "doctor"], api.url).items():
        assert said.lines, command
        said.expect("does not know this key", "INFERLANE_API_KEY")
    report = each(["doctor"], api.url)["doctor"]
    assert any("does not know this key" in line for line in report.lines), report.lines


def test_nobody_at_the_address(free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    for said in each(REMOTE, url, "--patience", "0").values():
        said.expect(f"nothing answers at {url}", code=3)
        said.expect("INFERLANE_URL", code=3)


def test_an_api_that_is_silent() -> None:
    """It accepts connections and says nothing: after two seconds each command says what it waits for."""
    with socket.create_server(("127.0.0.1", 0), backlog=99) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for command, said in each(REMOTE, url, "--timeout", "3", processes=len(REMOTE)).items():
            assert said.lines[0] == f"waiting for {url}, 3 s at most (--timeout)", (command, said.lines)
            assert said.code == 4, (command, said.lines)
