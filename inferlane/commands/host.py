"""``start``, ``stop``, ``scale``, ``demo``: calls of the checkout's programs, for the host they run on."""

from pathlib import Path

from inferlane import checkout
from inferlane.commands.command import argument, command
from inferlane.console import Context


@command(
    "start", "start everything on this host",
    argument("--without", action="append", default=[], metavar="PROGRAM",
             help="do not start this line of the Procfile; may be repeated"),
    remote=False,
)  # fmt: skip
def _start(context: Context) -> int:
    checkout.become("scripts", "start", *(f"--without={name}" for name in context.arguments.without))


@command("stop", "stop everything on this host", remote=False)
def _stop(_context: Context) -> int:
    checkout.become("scripts", "stop")


@command(
    "scale", "run more or fewer workers of a model",
    argument("replicas", nargs="+", metavar="MODEL=NUMBER", help="workers that a model is to have"), remote=False,
)  # fmt: skip
def _scale(context: Context) -> int:
    checkout.become("scripts", "scale", *context.arguments.replicas)


@command(
    "demo", "classify a photo of a cat, or tour the system",
    argument("photo", nargs="?", type=Path, help="classify this photo (a cat)"),
    argument("--quick", action="store_true", help="play all scenes, on a temporary system if none runs"), remote=False,
)  # fmt: skip
def _demo(context: Context) -> int:
    photo = context.arguments.photo
    words = ["--quick"] if context.arguments.quick else [str(photo.resolve())] if photo else []
    checkout.become("scripts.demo", *words)
