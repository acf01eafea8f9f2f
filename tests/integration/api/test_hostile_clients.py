"""Slow bodies, clients that never read and JSON bombs at once: probes and photos are answered, memory is bounded.

``HOSTILE=full`` makes it 500 slow bodies, 50 clients that do not read and 10 bombs for 20 seconds.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

import httpx
import psutil
import pytest

from tests.integration.api.conftest import MODELS, image
from tests.support.stack import ApiProcess, Stack
from tests.support.waiting import wait_until

FULL = os.environ.get("HOSTILE") == "full"
SLOW, DEAF, BOMBS, SECONDS = (500, 50, 10, 20.0) if FULL else (150, 10, 2, 5.0)
#: Seconds for an answer of a probe: 0.1 on a quiet machine; tests share theirs.
PROMPT = 0.1 if FULL else 1.0
RAW = {"Content-Type": "image/gif"}
HEAD = b"POST /inference HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/gif\r\nContent-Length: %d\r\n\r\n"
PHOTO = {"model_type": "photo"}
BOMB = b'{"data": [' + b"[]," * 9_000_000 + b"[]]}"


#: Measured by a separate process, because this one is busy.
PROBES = """
import http.client, json, sys, time, urllib.parse
address, ends = urllib.parse.urlsplit(sys.argv[1]).netloc, time.monotonic() + float(sys.argv[2])
waits = {"/livez": [], "/readyz": []}
while time.monotonic() < ends:
    for path in waits:
        began = time.monotonic()
        line = http.client.HTTPConnection(address, timeout=20)
        line.request("GET", path)
        assert line.getresponse().status == 200
        line.close()
        waits[path].append(time.monotonic() - began)
    time.sleep(0.05)
print(json.dumps(waits))
"""


class Crowd:
    """Clients that misbehave, until the block is left."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = ExitStack()
        self._stop = threading.Event()
        self._slow: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.statuses: list[int] = []

    def connect(self, request: bytes) -> socket.socket:
        line = self._open.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=10))
        line.sendall(request)
        return line

    def slow(self, number: int) -> None:
        """Bodies of a megabyte of which a byte comes now and then."""
        head = (
            b"POST /inference HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/gif\r\nContent-Length: 1000000\r\n\r\n"
        )
        self._slow += [self.connect(head + b"GIF") for _ in range(number)]
        self._start(self._drip)

    def _drip(self) -> None:
        while not self._stop.wait(1.0):
            for line in self._slow:
                with _closed_is_fine():
                    line.send(b"x")

    def deaf(self, number: int) -> None:
        """Callers of a long list who never read the answer."""
        for _ in range(number):
            line = self.connect(b"GET /inference?limit=500 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 5)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def bombs(self, number: int) -> None:
        for _ in range(number):
            self._start(self._bomb)

    def _bomb(self) -> None:
        url, kind = f"http://127.0.0.1:{self._port}/inference", {"Content-Type": "application/json"}
        with suppress(httpx.TransportError):  # the server may hang up while the bomb is still on its way
            self.statuses.append(httpx.post(url, content=BOMB, headers=kind, timeout=60).status_code)

    def _start(self, act: object) -> None:
        thread = threading.Thread(target=act)  # type: ignore[arg-type]
        thread.start()
        self.threads.append(thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join()
        self._open.close()


@contextmanager
def _closed_is_fine() -> Iterator[None]:
    try:
        yield
    except OSError:  # the server has ended this line
        return


@pytest.fixture
def api(stack: Stack) -> ApiProcess:
    stack.start_worker("tests.toy:photo", name="photo-1", TOY_SECONDS=0.001, TOY_BASE=0.001)
    return stack.start_api(MODELS=f"photo,{MODELS}", workers=1)


def memory(api: ApiProcess) -> int:
    family = [psutil.Process(api.pid), *psutil.Process(api.pid).children(recursive=True)]
    return sum(process.memory_info().rss for process in family)


def described(path: str, times: list[float]) -> str:
    ordered = sorted(times)
    middle, late, worst = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1.0))
    return f"{len(times)} x {path}: median {middle:.3f} s, p99 {late:.3f} s, max {worst:.3f} s"


@pytest.mark.slow
def test_probes_and_honest_callers_are_answered_whatever_others_do(api: ApiProcess) -> None:
    for _ in range(60):
        api.client.post("/inference", content=image(), headers=RAW, params={"model_type": "photo", "top_k": 1000})
    port, before = int(api.url.rpartition(":")[2]), memory(api)
    photos: list[int] = []
    largest = before
    with Crowd(port) as crowd, httpx.Client(base_url=api.url, timeout=30) as honest:
        probes = subprocess.Popen(
            [sys.executable, "-c", PROBES, api.url, str(SECONDS)], stdout=subprocess.PIPE, text=True
        )
        crowd.slow(SLOW)
        crowd.deaf(DEAF)
        crowd.bombs(BOMBS)
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            photos.append(honest.post("/inference", content=image(), headers=RAW, params=PHOTO).status_code)
            largest = max(largest, memory(api))
            time.sleep(0.05)
        waits = json.loads(probes.communicate(timeout=30)[0])
    seen = "; ".join(described(path, times) for path, times in waits.items())
    seen += f"; {photos.count(200)} of {len(photos)} photos; "
    seen += f"{before >> 20} MiB before, {largest >> 20} at most"
    sys.stderr.write(seen + "\n")
    assert max(waits["/livez"]) < PROMPT, seen
    assert sorted(waits["/readyz"])[-len(waits["/readyz"]) // 100] < 2 * PROMPT, seen
    assert photos.count(200) == len(photos)
    assert set(crowd.statuses) <= {400}
    assert largest - before < 400 * 1024 * 1024


def test_a_stalled_body_is_ended_and_told_so(api: ApiProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large body has to bring 64 KiB in ten seconds."""
    port = int(api.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(HEAD % 9_000_000)
        line.sendall(bytes(100_000))
        began = time.monotonic()
        answer = line.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b"body_timeout" in answer
        assert 5 < time.monotonic() - began < 25


@pytest.mark.slow
def test_a_connection_outlives_the_idle_time_of_a_load_balancer(api: ApiProcess) -> None:
    """Balancers reuse a connection for up to 75 s; one that the server has closed meanwhile costs them a 502."""
    line = http.client.HTTPConnection("127.0.0.1", int(api.url.rpartition(":")[2]), timeout=10)
    line.request("GET", "/livez")
    assert line.getresponse().read()
    before = line.sock
    time.sleep(76)
    line.request("GET", "/livez")
    assert line.getresponse().status == 200
    assert line.sock is before
    line.close()


def test_the_books_of_large_bodies_balance(api: ApiProcess) -> None:
    for _ in range(8):
        answer = api.client.post("/inference", content=bytes(6_000_000), headers=RAW)
        assert answer.status_code == 422
    wait_until(lambda: api.client.get("/livez").status_code == 200)
    with httpx.Client(base_url=api.url, timeout=30) as client:
        assert client.post("/inference", content=image(), headers=RAW, params=PHOTO).status_code == 200
