"""Two hosts on one machine: network namespaces with a wire between them that can be slow, lose packets, or be cut.

Each host has its own address, name and processes; the machine's network is unchanged. The wire is a
pair of raw sockets in a third namespace and the threads that carry frames between them, because not every kernel has
``netem``. It needs root and iproute2: :func:`why_not` says what is missing.
"""

from __future__ import annotations

import ctypes
import heapq
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23


def why_not() -> str:
    """Why this machine cannot have namespaces; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "unshare", "hostname") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    probe = f"inferlane-probe-{os.getpid()}"
    for words in (
        ["netns", "add", probe],
        ["-n", probe, "link", "add", "name", "one", "type", "veth", "peer", "name", "other"],
    ):
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            break
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    return f"not permitted here: {done.stderr.strip()}" if done.returncode else ""


@dataclass(frozen=True)
class Host:
    """A namespace with one network card, ``wire``, and the address ``address``."""

    name: str
    space: str
    address: str

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line that runs ``command`` on this host, under its name, as the same process."""
        script = 'hostname "$0" && exec "$@"'
        return ["ip", "netns", "exec", self.space, "unshare", "--uts", "sh", "-c", script, self.name, *command]

    def card(self, state: str) -> None:
        """Take the network card ``down`` or ``up``."""
        ip("-n", self.space, "link", "set", "wire", state)


class Wire(threading.Thread):
    """Carries Ethernet frames from one socket to another, ``delay`` seconds late, a share ``loss`` of them never."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        super().__init__(name="wire", daemon=True)
        self.delay = 0.0
        self.loss = 0.0
        self.cut = False
        self.carried = 0
        self._source, self._sink = source, sink
        self._chance = random.Random(1)  # noqa: S311 - the same losses every time
        self._ending = threading.Event()

    def run(self) -> None:
        under_way: list[tuple[float, int, bytes]] = []
        while not self._ending.is_set():
            self._source.settimeout(max(0.0001, under_way[0][0] - time.monotonic()) if under_way else 0.1)
            try:
                frame = self._source.recv(70_000)
            except (TimeoutError, BlockingIOError):
                pass
            except OSError:  # the card went down; it may come up again
                self._ending.wait(0.01)
            else:
                if not self.cut and self._chance.random() >= self.loss:
                    self.carried += 1
                    heapq.heappush(under_way, (time.monotonic() + self.delay, self.carried, frame))
            while under_way and under_way[0][0] <= time.monotonic():
                self._put(heapq.heappop(under_way)[2])

    def _put(self, frame: bytes) -> None:
        try:
            self._sink.send(frame)
        except OSError:  # the card at the other end is down: the frame is lost, as on a real wire
            return

    def end(self) -> None:
        self._ending.set()
        self.join()


class TwoHosts:
    """``here`` and ``there`` and the wire between them; everything is gone when it is closed."""

    def __init__(self) -> None:
        base = f"inferlane-{os.getpid()}"
        self.here = Host("here", f"{base}-here", "10.77.0.1")
        self.there = Host("there", f"{base}-there", "10.77.0.2")
        self._middle = f"{base}-wire"
        self._wires: list[Wire] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """Drop everything silently, like a dead switch."""
        for wire in self._wires:
            wire.cut = True

    def heal(self) -> None:
        for wire in self._wires:
            wire.cut = False

    def slow(self, *, delay: float, loss: float) -> None:
        """Let every frame take ``delay`` seconds each way and lose the share ``loss`` of them."""
        for wire in self._wires:
            wire.delay, wire.loss = delay, loss

    def close(self) -> None:
        for wire in self._wires:
            wire.end()
        for end in self._sockets:
            end.close()
        for space in (self.here.space, self.there.space, self._middle):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)

    def _build(self) -> None:
        for space in (self.here.space, self.there.space, self._middle):
            ip("netns", "add", space)
        for host, end in ((self.here, "to-here"), (self.there, "to-there")):
            ip(
                "-n",
                self._middle,
                "link",
                "add",
                "name",
                end,
                "type",
                "veth",
                "peer",
                "name",
                "wire",
                "netns",
                host.space,
            )
            ip("-n", self._middle, "link", "set", end, "up")
            ip("-n", host.space, "address", "add", f"{host.address}/24", "dev", "wire")
            ip("-n", host.space, "link", "set", "lo", "up")
            host.card("up")
        self._sockets = raw_sockets(self._middle, ["to-here", "to-there"])
        a, b = self._sockets
        self._wires = [Wire(a, b), Wire(b, a)]
        for wire in self._wires:
            wire.start()


def ip(*words: str) -> None:
    """Run iproute2; raises with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def raw_sockets(space: str, cards: Sequence[str]) -> list[socket.socket]:
    """A socket on each of these network cards of another namespace: a socket stays where it was made.

    Frames come with the header that says what the sending kernel left for the card to do (checksums, segments), so they
    can be handed on as they are.
    """
    found: list[socket.socket] = []

    def enter() -> None:  # in a separate thread, because the namespace belongs to the thread
        with Path(f"/run/netns/{space}").open() as place:
            if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), _CLONE_NEWNET):
                return
        for card in cards:
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            end.bind((card, 0))
            end.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            end.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            found.append(end)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert len(found) == len(cards), f"could not enter {space}"
    return found
