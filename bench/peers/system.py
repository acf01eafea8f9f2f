"""A peer as a running system: its processes, its address, how to send a photo and check the answer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from bench.caller import Caller
from bench.peers.catalog import QUIET, Configuration, Peer
from bench.trees import ROOT, Tree, cpu_seconds, memory, wait_for
from common.settings import Settings, variables
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

START_TIMEOUT = 90.0


class RunningPeer:
    """One configuration of a peer, from start to end; use it in a ``with`` block.

    Args:
        peer: which.
        configuration: how.
        binaries: the ``bin`` folder of its environment.
        model: what it serves.
        settings: where weights and graphs are.
        folder: for its logs and data.
    """

    def __init__(
        self, peer: Peer, configuration: Configuration, binaries: Path, model: str, settings: Settings, folder: Path
    ) -> None:
        self._peer, self._configuration, self._binaries = peer, configuration, binaries
        self._folder = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=folder))
        self._port = free_port()
        self._model, self._settings = model, settings
        self._redis: RedisServer | None = None
        self._trees: list[Tree] = []
        self.caller = Caller(f"http://127.0.0.1:{self._port}", timeout=45)

    def __enter__(self) -> Self:
        try:
            if self._peer.redis:
                self._redis = RedisServer(self._folder / "redis")
            environ = self._environ()
            for number, command in enumerate(self._peer.commands):
                words = self._words(command, environ)
                self._trees.append(Tree(words, environ, self._folder / f"{self._peer.name}-{number}.log"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.caller.close()
        for tree in self._trees:
            tree.stop()
        if self._redis is not None:
            self._redis.stop()

    def request(self, photo: bytes) -> tuple[str, bytes, dict[str, str]]:
        """Path, body and headers of one photo."""
        body, kind = (self._configuration.form or self._peer.form)(photo)
        return self._peer.path, body, {"Content-Type": kind}

    def wait_until_ready(self, photo: bytes) -> None:
        """Until it answers a photo."""
        path, body, headers = self.request(photo)

        def answers() -> bool:
            try:
                return self.caller.ask("POST", path, body, headers)[0] == 200
            except OSError:
                return False

        wait_for(answers, START_TIMEOUT, f"{self._peer.title} answers", self._trees)

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far of all its processes."""
        return {self._peer.name: cpu_seconds(self._pids())}

    def memory(self) -> dict[str, list[dict[str, Any]]]:
        """RSS and PSS of each of its processes."""
        return {self._peer.name: [row for pid in self._pids() for row in memory(pid)]}

    def _pids(self) -> Iterable[int]:
        redis = [self._redis.process.pid] if self._redis else []
        return [*(tree.pid for tree in self._trees), *redis]

    def _words(self, command: tuple[str, ...], environ: dict[str, str]) -> list[str]:
        known = {key.removeprefix("BENCH_").lower(): value for key, value in environ.items()}
        words = [word.format_map(known) if "{" in word else word for word in command]
        return [str(self._binaries / words[0]), *words[1:]]

    def _environ(self) -> dict[str, str]:
        """Its own environment first on the path, the source tree importable, this project's settings for the model."""
        kept = {key: value for key, value in os.environ.items() if key not in variables()}
        return {
            **kept,
            **QUIET,
            "PATH": f"{self._binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "WEIGHTS_DIR": self._settings.weights_dir,
            "MODEL_CACHE_DIR": str(Path(self._settings.model_cache_dir).resolve()),
            "ALLOW_RANDOM_WEIGHTS": "1",
            "WEIGHTS_TIMEOUT": "1",
            "BENCH_MODEL": self._model,
            "BENCH_PORT": str(self._port),
            "BENCH_FOLDER": str(self._folder),
            "BENCH_REDIS": self._redis.url if self._redis else "",
            **self._configuration.environ,
        }


def check(answer: dict[str, Any] | list[Any], expected: str | None) -> None:
    """Predictions, and with ``expected`` the first of them is that class.

    Raises:
        RuntimeError: it is no such answer.
    """
    found = answer[0] if isinstance(answer, list) else answer
    predictions = found.get("predictions") or []
    if not predictions or (expected is not None and predictions[0]["class"] != expected):
        raise RuntimeError(f"not the answer: {str(answer)[:300]}")
