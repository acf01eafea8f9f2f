"""The setting of the scenes: the running system or a temporary one, and photos with their right classes."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.settings import ModelName, get_settings, variables
from inferlane import Client, Result
from inferlane.console import KEY, plain, seconds
from inferlane.errors import ClientError
from scripts.supervision import ROOT

MODEL = "efficientnet_lite0"  # a package brings its weights, so every machine has it
WORKERS = 2
CAT, COFFEE, ROCKET = (ROOT / "docs" / "images" / name for name in ("cat.png", "coffee.jpg", "rocket.jpg"))
#: The ImageNet classes that are right for each photo.
PHOTOS = {
    CAT: range(281, 286),  # tabby, tiger, Persian, Siamese, Egyptian
    COFFEE: range(967, 970),  # espresso, cup, eggnog
    ROCKET: (657, 744, 812),  # missile, projectile, space shuttle
}
BAR = 30  # characters


class DemoError(RuntimeError):
    """There is no system to show, or it broke a promise; the message says which."""


def expect(holds: object, otherwise: str) -> None:
    """Raise :class:`DemoError` with ``otherwise`` unless ``holds``."""
    if not holds:
        raise DemoError(otherwise)


@dataclass(frozen=True)
class DemoStage:
    """For a scene: a client of the system, the model to ask, and where to print."""

    client: Client
    model: str
    console: Console

    def classify(self, photo: Path) -> None:
        """Classify ``photo`` and print its classes, each with a bar as long as its probability.

        Raises:
            DemoError: it is not a real model's right answer.
        """
        result = self.client.predict(photo, self.model)
        expect(not problem(photo, result), problem(photo, result))
        line = f"{photo.name}: {result.model}, weights {result.weights}, {seconds(result.processing_time)}"
        self.console.print()
        self.console.print(plain(line), markup=False, soft_wrap=True)
        table = Table.grid(padding=(0, 1))
        for guess in result.predictions:
            bar = "█" * max(1, round(BAR * guess.confidence))
            table.add_row(Text(f"{guess.confidence:6.1%}"), Text(f"{bar:<{BAR}}", style="green"), plain(guess.label))
        self.console.print(table)


def problem(photo: Path, result: Result) -> str:
    """Why ``result`` is not a real model's right answer for ``photo``; empty when it is."""
    if result.weights == "random":
        return "the answer comes from random weights (ALLOW_RANDOM_WEIGHTS=1) and means nothing"
    right = photo not in PHOTOS or result.best.index in PHOTOS[photo]
    return "" if right else f"{photo.name} is not {result.best.label!r}"


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
            url = stack.enter_context(temporary_system(model))
        yield DemoStage(stack.enter_context(Client(url, os.environ.get(KEY))), model, console)


def answers(url: str) -> bool:
    """Whether an API answers at ``url`` now."""
    with Client(url, timeout=2) as client:
        try:
            client.document("/livez")
        except ClientError:
            return False
    return True


@contextlib.contextmanager
def temporary_system(model: str, workers: int = WORKERS) -> Iterator[str]:
    """The address of a system with its own port and run directory, which ends with this block.

    Its settings are the defaults, but for the user's weights and graphs.

    Raises:
        DemoError: it did not come up.
    """
    settings = get_settings()
    with tempfile.TemporaryDirectory(prefix="inferlane-demo-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        # An empty variable keeps the default and hides what .env says.
        own = {
            **dict.fromkeys(variables(), ""), "API_PORT": str(port), "MODELS": model, "RUN_DIR": folder,
            "WEIGHTS_DIR": settings.weights_dir, "MODEL_CACHE_DIR": settings.model_cache_dir,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }  # fmt: skip
        try:
            _scripts(own, "start", "--without", "dashboard", "--without", "flower")
            _scripts(own, "scale", f"{ModelName(model)}={workers}")
            yield f"http://127.0.0.1:{port}"
        finally:
            _scripts(own, "stop")


def _scripts(environ: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "scripts", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"`{arguments[0]}` failed:\n{done.stdout}{done.stderr}")
