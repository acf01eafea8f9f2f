"""The processes of the API: one that dies leaves the others serving, and none outlives its master."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until


def children(api: Process) -> list[psutil.Process]:
    """The processes of an API that serve."""
    found = [child for child in psutil.Process(api.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    # Where processes are spawned, Python adds one that tracks resources.
    return [child for child in found if "resource_tracker" not in " ".join(child.cmdline())]


def answers(url: str, timeout: float = 2) -> bool:
    """Whether a new connection is answered."""
    try:
        return httpx.get(f"{url}/livez", timeout=timeout).status_code == 200
    except httpx.TransportError:
        return False


def ended(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=0)[1]


@pytest.fixture
def pair(stack: Stack) -> ApiProcess:
    """An API of two processes, both of them up."""
    api = stack.start_api(workers=2)
    wait_until(lambda: len(listening(api)) == 2, 20, what="two processes listen")
    return api


def listening(api: ApiProcess) -> list[psutil.Process]:
    port = int(api.url.rpartition(":")[2])
    return [
        child for child in children(api)
        if any(item.status == "LISTEN" and item.laddr.port == port for item in child.net_connections())
    ]  # fmt: skip


def test_a_process_killed_twice_within_seconds_leaves_the_other_serving(pair: ApiProcess) -> None:
    steady, victim = listening(pair)
    for _ in range(2):
        victim.kill()
        gone = time.monotonic()
        while time.monotonic() - gone < 1.0:
            # A connection that the killed one had not yet accepted dies with it; the next must get through.
            assert answers(pair.url) or answers(pair.url) or answers(pair.url)
        victim = wait_until(lambda: next((p for p in children(pair) if p != steady), None), 5, what="a new process")
    wait_until(lambda: len(listening(pair)) == 2, 20, what="two processes listen again")
    assert steady in listening(pair)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_no_process_outlives_its_master(pair: ApiProcess, number: signal.Signals) -> None:
    there = listening(pair)
    pair.send(number)
    wait_until(lambda: ended(there), 5, what="its processes have ended")
    with socket.create_server(("127.0.0.1", int(pair.url.rpartition(":")[2]))):
        pass


def test_a_process_that_is_starting_does_not_outlive_its_master_either(stack: Stack) -> None:
    api = stack.start_api(workers=2)
    first = children(api)
    first[0].kill()
    new = wait_until(lambda: [child for child in children(api) if child not in first], 5, what="a new process")
    api.send(signal.SIGKILL)
    wait_until(lambda: ended([*new, *first]), 5, what="its processes have ended")


def test_sigterm_to_all_of_them_at_once_ends_all_of_them(pair: ApiProcess) -> None:
    there = listening(pair)
    for pid in (*(process.pid for process in there), pair.pid):
        os.kill(pid, signal.SIGTERM)
    assert pair.wait(10) == 0
    assert ended(there)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "broken.py").write_text("def make():\n    raise RuntimeError('this cannot start')\n")
    return tmp_path


def test_when_no_process_can_be_kept_up_the_master_ends_and_says_why(folder: Path) -> None:
    call = f"serve('broken:make', name='api', host='127.0.0.1', port={free_port()}, processes=2, patience=2)"
    environ = os.environ | {"PYTHONPATH": str(folder)}
    process = Process(
        [sys.executable, "-c", f"from common.serving import serve; {call}"], name="api", folder=folder, environ=environ
    )
    try:
        assert process.wait(20) == 1
    finally:
        process.kill()
    assert "this cannot start" in process.log()


def refused(stack: Stack, **environ: object) -> list[str]:
    """What an API that cannot start says before it ends."""
    process = Process([sys.executable, "-m", "api"], name="api", folder=stack.folder, environ=stack.environ(**environ))
    try:
        assert process.wait(20) == 1
    finally:
        process.kill()
    return process.log().splitlines()


def test_a_second_api_on_the_port_is_refused_in_one_line(pair: ApiProcess, stack: Stack) -> None:
    port = pair.url.rpartition(":")[2]
    assert refused(stack, API_PORT=port) == [f"cannot listen on 127.0.0.1 port {port}: Address already in use"]


def test_a_host_that_is_none_is_refused_in_one_line(stack: Stack) -> None:
    (line,) = refused(stack, API_HOST="no-such-host.invalid", API_PORT=free_port(), API_KEYS=f"a:user:{'0' * 64}")
    assert line.startswith("API_HOST: ")
