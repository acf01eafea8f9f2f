"""Fault injection. Does nothing unless CHAOS_ENABLED.

=============  =====================================================================
``crash``      SIGKILL this process
``exit``       end this process from inside the forward pass
``hang``       the next forward pass never returns, until the watchdog ends the worker
``slow``       every forward pass takes ``seconds`` longer
``error``      a forward pass fails with probability ``rate``
``drop``       every Redis connection of this process is closed by the server
``freeze``     SIGSTOP this process, SIGCONT after ``seconds``
``off``        back to normal
=============  =====================================================================
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.settings import Settings
from tasks.protocol import connections
from worker_models.errors import InferenceFailed

log = logging.getLogger(__name__)

MODES = ("crash", "exit", "hang", "slow", "error", "drop", "freeze", "off")


class Chaos:
    """The faults of one worker process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._last_order: Mapping[str, Any] | None = None
        self._looked = False
        self.mode = "off"
        self._seconds = 0.0
        self._rate = 0.0

    def order(self, order: Mapping[str, Any] | None) -> None:
        """Carry out an operator's order from Redis, once per ``id``.

        An order found at the first check was for the previous process of this name, which may have died of it.
        """
        with self._lock:
            first, self._looked = not self._looked, True
            old, self._last_order = self._last_order, order or self._last_order
            if first or order is None or order == old:
                return
        if order.get("mode") not in MODES:
            log.error("chaos: unknown mode in %r", order)
            return
        self.set(str(order.get("mode")), seconds=float(order.get("seconds", 1)), rate=float(order.get("rate", 1)))

    def set(self, mode: str, *, seconds: float = 1.0, rate: float = 1.0) -> None:
        """Switch a fault on; raises ValueError for an unknown mode."""
        if mode not in MODES:
            raise ValueError(f"chaos mode must be one of {', '.join(MODES)}, not {mode!r}")
        log.warning("chaos: %s", mode)
        act: dict[str, Callable[[], None]] = {
            "crash": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "drop": self._drop_connections,
            "freeze": lambda: self._freeze(seconds),
        }
        if mode in act:
            act[mode]()
            return
        self.mode, self._seconds, self._rate = mode, seconds, rate

    def around(self, infer: Callable[[Sequence[Any]], Sequence[Any]]) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """``infer`` after the current fault."""

        def infer_with_faults(batch: Sequence[Any]) -> Sequence[Any]:
            self._strike()
            return infer(batch)

        return infer_with_faults

    def _strike(self) -> None:
        if self.mode == "exit":
            os._exit(1)
        if self.mode == "hang":
            threading.Event().wait()
        if self.mode == "slow":
            time.sleep(self._seconds)
        if self.mode == "error" and random.random() < self._rate:  # noqa: S311 - a dice throw, not a secret
            raise InferenceFailed("chaos: injected failure")

    def _drop_connections(self) -> None:
        """Have the server close this process's connections; it finds them by the pid in their peer's socket table."""
        import psutil

        mine = {f"{c.laddr.ip}:{c.laddr.port}" for c in psutil.Process().net_connections("tcp") if c.raddr}
        client = connections.prompt(self._settings.redis_url)
        own = client.client_id()
        for entry in client.client_list():
            if entry["addr"] in mine and int(entry["id"]) != own:
                client.client_kill_filter(_id=entry["id"])

    @staticmethod
    def _freeze(seconds: float) -> None:
        pid = os.getpid()
        wake = f"import os, signal, time; time.sleep({float(seconds)}); os.kill({pid}, signal.SIGCONT)"
        subprocess.Popen([sys.executable, "-c", wake], start_new_session=True)  # noqa: S603 - our own interpreter
        os.kill(pid, signal.SIGSTOP)
