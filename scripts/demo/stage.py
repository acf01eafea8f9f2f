"""The system that the scenes run on: the one that answers already, or a temporary one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.settings import ModelName, get_settings, variables
from inferlane import Client
from inferlane.errors import ClientError
from scripts.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from common.settings import Settings

MODEL = "efficientnet_lite0"  # a package brings its weights, so every machine has it
WORKERS = 2


class DemoError(RuntimeError):
    """There is no system to show, or it broke a promise; the message says which."""


def expect(holds: object, otherwise: str) -> None:
    """Raise :class:`DemoError` with ``otherwise`` unless ``holds``."""
    if not holds:
        raise DemoError(otherwise)


@dataclass(frozen=True)
class DemoStage:
    """What a scene needs: a client for the system, its address, the model to ask, and where to print."""

    client: Client
    url: str
    model: str
    console: Console


@contextlib.contextmanager
def stage(console: Console, url: str, model: str = MODEL) -> Iterator[DemoStage]:
    """The system at ``url`` if it answers, else a temporary one that ends with this block.

    Raises:
        DemoError: it could not be started.
    """
    with contextlib.ExitStack() as stack:
        if answers(url):
            console.print(f"Using the system that runs at {url}.")
        else:
            console.print(f"Nothing answers at {url}: starting {WORKERS} workers and an API for this demonstration.")
            url = stack.enter_context(temporary_system(get_settings(), model))
        client = stack.enter_context(Client(url, os.environ.get("INFERLANE_API_KEY")))
        yield DemoStage(client, url, model, console)


def answers(url: str) -> bool:
    """Whether an API answers at ``url`` now."""
    with Client(url, timeout=2) as client:
        try:
            client.document("/livez")
        except ClientError:
            return False
    return True


@contextlib.contextmanager
def temporary_system(settings: Settings, model: str, workers: int = WORKERS) -> Iterator[str]:
    """The address of a system with its own port and run directory, which ends with this block.

    Raises:
        DemoError: it did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="inferlane-demo-") as folder:
        environ = environment(settings, model, folder)
        try:
            _scripts(environ, "start", "--without", "dashboard", "--without", "flower")
            _scripts(environ, "scale", f"{ModelName(model)}={workers}")
            yield f"http://127.0.0.1:{environ['API_PORT']}"
        finally:
            _scripts(environ, "stop")


def environment(settings: Settings, model: str, folder: str) -> dict[str, str]:
    """The environment of a temporary system: default settings, and the user's weights and graphs."""
    # An empty variable keeps the default and hides what .env says.
    return {
        **os.environ,
        **dict.fromkeys(variables(), ""),
        "API_PORT": str(free_port()),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MODELS": model,
        "RUN_DIR": folder,
        "WEIGHTS_DIR": settings.weights_dir,
        "MODEL_CACHE_DIR": settings.model_cache_dir,
    }


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _scripts(environ: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "scripts", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"`{arguments[0]}` failed:\n{done.stdout}{done.stderr}")
