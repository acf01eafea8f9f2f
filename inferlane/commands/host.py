"""``start``, ``stop``, ``scale``, ``demo``: calls of the checkout's programs, for the host they run on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from inferlane import checkout
from inferlane.commands.command import Command, no_arguments
from inferlane.console import Context

Arguments = argparse.ArgumentParser
Given = argparse.Namespace


def _host_command(
    name: str, about: str, words: Callable[[Given], Iterable[str]],
    configure: Callable[[Arguments], None] = no_arguments, module: str = "scripts",
) -> Command:  # fmt: skip
    """A command that becomes ``python -m module`` with ``words``."""

    def run(context: Context) -> int:
        return checkout.become(module, *words(context.arguments))

    return Command(name=name, help=about, run=run, configure=configure, remote=False)


def _start(parser: Arguments) -> None:
    parser.add_argument("--without", action="append", default=[], metavar="PROGRAM",
                        help="do not start this line of the Procfile; may be repeated")  # fmt: skip


def _scale(parser: Arguments) -> None:
    parser.add_argument("replicas", nargs="+", metavar="MODEL=NUMBER", help="workers that a model is to have")


def _demo(parser: Arguments) -> None:
    parser.add_argument("photo", nargs="?", type=Path, help="classify this photo (a cat)")
    parser.add_argument("--quick", action="store_true", help="play all scenes, on a temporary system if none runs")


def _demo_words(given: Given) -> Iterable[str]:
    photo = [str(given.photo.resolve())] if given.photo else []
    return ["--quick"] if given.quick else photo


START = _host_command("start", "start everything on this host",
                      lambda given: ["start", *(f"--without={name}" for name in given.without)], _start)  # fmt: skip
STOP = _host_command("stop", "stop everything on this host", lambda _given: ["stop"])
SCALE = _host_command("scale", "run more or fewer workers of a model", lambda given: ["scale", *given.replicas], _scale)
DEMO = _host_command("demo", "classify a photo of a cat, or tour the system", _demo_words, _demo, "scripts.demo")
