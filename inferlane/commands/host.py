"""``start``, ``stop``, ``scale``, ``demo``, ``keys``: calls of the checkout's programs, for the host they run on."""

from __future__ import annotations

import argparse
from pathlib import Path

from inferlane import checkout
from inferlane.commands.command import Command
from inferlane.console import Context


def _start_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--without", action="append", default=[], metavar="PROGRAM",
                        help="do not start this line of the Procfile; may be repeated")  # fmt: skip


def _start(context: Context) -> int:
    return _script("start", *(f"--without={name}" for name in context.arguments.without))


def _stop(_context: Context) -> int:
    return _script("stop")


def _scale_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("replicas", nargs="+", metavar="MODEL=NUMBER", help="workers that a model is to have")


def _scale(context: Context) -> int:
    return _script("scale", *context.arguments.replicas)


def _script(command: str, *words: str) -> int:
    checkout.require(command)
    return checkout.become("scripts", command, *words)


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", nargs="?", type=Path, help="classify this photo (a cat)")
    parser.add_argument("--quick", action="store_true", help="play all scenes, on a temporary system if none runs")


def _demo(context: Context) -> int:
    given = context.arguments
    checkout.require("demo")
    words = ["--quick"] if given.quick else [str(given.photo.resolve())] if given.photo else []
    return checkout.become("scripts.demo", *words)


def _keys_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the owner of the key")
    parser.add_argument("role", nargs="?", choices=("user", "admin"), default="user", help="role (%(default)s)")


def _keys(context: Context) -> int:
    checkout.require("keys")
    return checkout.become("api.http.api_keys", context.arguments.name, context.arguments.role)


START = Command(
    name="start", help="start everything on this host", run=_start, configure=_start_arguments, remote=False
)
STOP = Command(name="stop", help="stop everything on this host", run=_stop, remote=False)
SCALE = Command(
    name="scale", help="run more or fewer workers of a model", run=_scale, configure=_scale_arguments, remote=False
)
DEMO = Command(
    name="demo", help="classify a photo of a cat, or tour the system", run=_demo, configure=_demo_arguments,
    remote=False,
)  # fmt: skip
KEYS = Command(
    name="keys", help="make an API key and its entry for API_KEYS", run=_keys, configure=_keys_arguments, remote=False
)
