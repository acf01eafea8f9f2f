"""Probes: which ports are taken, which services answer, which processes belong to a run directory."""

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from common.settings import Settings, local_url
from scripts import broker
from tasks.errors import BrokerUnavailable
from tasks.inspect.monitor import Monitor

# Every process of `make start` inherits this variable; its value is the run directory.
MARK = "INFERLANE_RUN_DIR"
# A Redis or Valkey overwrites its environment with its title; it is recognized by its working directory.
SERVERS = re.compile("redis|valkey|keydb")
SERVER_GRACE = 30.0


@dataclass(frozen=True)
class Listener:
    """One HTTP service of this host: its address, the variable that sets its port, the path of its health check."""

    name: str
    variable: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """Where a browser on this host finds it."""
        return local_url(self.host, self.port)

    def problem(self) -> str:
        """Why it does not answer yet; empty when it does."""
        try:
            response = httpx.get(self.url + self.path, timeout=5, trust_env=False)  # no proxy leads to this host
        except httpx.TransportError as error:
            return f"{self.name} at {self.url}: {error}"
        return "" if response.status_code == 200 else f"{self.name} at {self.url}{self.path}: {response.text[:300]}"

    def is_taken(self) -> bool:
        """Whether its port is in use."""
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError:
                return True
        return False


def listeners(settings: Settings) -> list[Listener]:
    """The HTTP services of this host; names are those of the Procfile."""
    return [
        Listener("api", "API_PORT", settings.api_host, settings.api_port, "/readyz"),
        Listener("dashboard", "DASHBOARD_PORT", settings.dashboard_host, settings.dashboard_port, "/"),
        Listener("flower", "FLOWER_PORT", "127.0.0.1", settings.flower_port, "/healthcheck"),
    ]


def taken_ports(settings: Settings, names: set[str]) -> list[str]:
    """One line for each port that is taken, and one when there can be no broker."""
    lines = [
        f"port {item.port} is taken: free it, or set {item.variable}"
        for item in listeners(settings)
        if item.name in names and item.is_taken()
    ]
    if "broker" in names and (obstacle := broker.obstacle(settings)):
        lines.append(obstacle)
    return lines


def workers_seen(settings: Settings) -> set[str]:
    """The names, without the host, of this host's workers that hold a lease."""
    host = f"@{socket.gethostname()}"
    with suppress(BrokerUnavailable):
        rows = Monitor(settings).workers()
        return {row["id"].removesuffix(host) for row in rows if row["id"].endswith(host)}
    return set()


def own_processes(folder: Path) -> list[psutil.Process]:
    """Every process of the run directory ``folder``, supervisord included."""
    folder = folder.resolve()
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _belongs(process, folder)]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(folder) or (
            _is_server(process) and process.cwd().removesuffix(" (deleted)") == str(folder / "redis")
        )
    except (psutil.Error, OSError):  # ended meanwhile, or another user's
        return False


def _is_server(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return SERVERS.search(process.name()) is not None
    return False


def end_own_processes(folder: Path, grace: float = 5.0) -> int:
    """End every process of ``folder``, a Redis last; how many there were. SIGKILL follows after ``grace`` seconds."""
    number = len(own_processes(folder))
    _end(lambda: [process for process in own_processes(folder) if not _is_server(process)], grace)
    _end(lambda: own_processes(folder), SERVER_GRACE)
    return number


def _end(find: Callable[[], list[psutil.Process]], grace: float) -> None:
    found = find()
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(found, timeout=grace)
    # Looked up again each time: a shell may have started its next command meanwhile.
    while left := find():
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
