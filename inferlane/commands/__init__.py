"""The commands of the command line, by name."""

from collections.abc import Mapping
from importlib import import_module

from inferlane.commands.command import Command

_MODULES = (
    "host", "classify", "requests", "watch", "batch", "system", "operators", "keys", "load", "doctor", "completion",
)  # fmt: skip
_FOUND = (found for name in _MODULES for found in vars(import_module(f"{__name__}.{name}")).values())
COMMANDS: Mapping[str, Command] = {found.name: found for found in _FOUND if isinstance(found, Command)}

__all__ = ["COMMANDS", "Command"]
