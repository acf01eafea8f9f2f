"""``start``, ``stop``, ``scale``, ``demo``: run the checkout's programs, on this host.

``init``, ``serve``: a model of your own, from a first version with its test to a worker that serves it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from inferlane import checkout
from inferlane.commands.command import argument, as_json, command
from inferlane.console import Context, Exit, UsageError, plain

NAME = re.compile(r"(?!(?:any|high|normal|low)$)[A-Za-z][A-Za-z0-9_-]*")
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


@command(
    "start", "start everything on this host",
    argument("--without", action="append", default=[], metavar="PROGRAM",
             help="do not start this line of the Procfile; may be repeated"),
    as_json, remote=False,
)  # fmt: skip
def _start(context: Context) -> int:
    _scripts(context, *(f"--without={name}" for name in context.arguments.without))


@command("stop", "stop everything on this host", as_json, remote=False)
def _stop(context: Context) -> int:
    _scripts(context)


@command(
    "scale", "run more or fewer workers of a model",
    argument("replicas", nargs="+", metavar="MODEL=NUMBER", help="the number of workers of a model"),
    as_json, remote=False,
)  # fmt: skip
def _scale(context: Context) -> int:
    _scripts(context, *context.arguments.replicas)


def _scripts(context: Context, *words: str) -> NoReturn:
    """Become the program that `make` calls for the same command."""
    checkout.become("scripts", context.arguments.command, *(["--json"] if context.json else []), *words)


@command(
    "demo", "classify a photo of a cat, or tour the system",
    argument("photo", nargs="?", type=Path, help="the photo (default: a cat)"),
    argument("--quick", action="store_true", help="play all scenes, on a temporary system if none runs"), remote=False,
)  # fmt: skip
def _demo(context: Context) -> int:
    photo = context.arguments.photo
    words = ["--quick"] if context.arguments.quick else [str(photo.resolve())] if photo else []
    checkout.become("scripts.demo", *words)


@command(
    "init", "write a model of your own with its test",
    argument("name", help="the model's name, which becomes a folder here"), as_json, remote=False,
)  # fmt: skip
def _init(context: Context) -> int:
    folder = Path(context.arguments.name)
    module = _module(folder)
    if folder.exists():
        raise UsageError(f"{folder} exists already: choose another name, or delete it")
    folder.mkdir()
    for name, template in ((f"{module}.py", "model.py.txt"), (f"test_{module}.py", "test_model.py.txt")):
        filled = (TEMPLATES / template).read_text().replace("@NAME@", folder.name).replace("@MODULE@", module)
        (folder / name).write_text(filled.replace("@FOLDER@", str(folder.resolve())))
    written = {"model": f"{folder}/{module}.py", "test": f"{folder}/test_{module}.py"}
    text = f"{folder}/{module}.py is the model, test_{module}.py its test.\nNext: inferlane serve ./{folder}"
    context.show(written, lambda: text)
    return Exit.OK


def _module(folder: Path) -> str:
    """The name of the module in ``folder``, which is called like its model."""
    if not NAME.fullmatch(folder.name):
        raise UsageError(f"{plain(folder.name)!r} cannot name a model: begin with a letter, go on with letters, "
                         "digits, - and _, and use none of any, high, normal, low")  # fmt: skip
    return f"{folder.name.replace('-', '_')}_model"


@command(
    "serve", "serve a model of your own until Ctrl-C; starts the system if it does not run",
    argument("folder", type=Path, help="the folder that `inferlane init` wrote"), remote=False,
)  # fmt: skip
def _serve(context: Context) -> int:
    checkout.require()
    folder = context.arguments.folder.resolve()
    module = _module(folder)
    if not (folder / f"{module}.py").is_file():
        raise UsageError(f"{folder} has no {module}.py: `inferlane init {folder.name}` writes one")
    model = f"{folder.name}={module}:factory"
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    start = [sys.executable, "-m", "scripts", "start", "--without", "worker"]
    environ = os.environ | {"PYTHONPATH": path, "MODELS": model}
    started = subprocess.run(start, cwd=checkout.ROOT, env=environ, check=False)  # noqa: S603 - our own command
    if started.returncode:
        return started.returncode
    context.print(f"Serving {folder.name} until Ctrl-C. Ask it: inferlane classify PHOTO -m {folder.name}")
    node = f"{folder.name}-{os.getpid()}@%h"
    worker = ["celery", "-q", "-A", "tasks", "worker", "--model", model, "-n", node, "-P", "threads"]
    return checkout.become(*worker, PYTHONPATH=path)
