"""The commands of the command line, by name."""

from collections.abc import Mapping

from client.commands.batch import BATCH
from client.commands.classify import CLASSIFY
from client.commands.command import Command
from client.commands.doctor import DOCTOR
from client.commands.listing import LIST
from client.commands.load import LOAD
from client.commands.monitor import MONITOR
from client.commands.operators import CHAOS, DEAD_LETTERS
from client.commands.requests import CANCEL, GET, SUBMIT
from client.commands.system import QUEUES, STATUS, WORKERS
from client.commands.watch import WATCH

_ALL = (
    CLASSIFY,
    SUBMIT,
    GET,
    WATCH,
    CANCEL,
    LIST,
    BATCH,
    STATUS,
    QUEUES,
    WORKERS,
    MONITOR,
    DEAD_LETTERS,
    LOAD,
    CHAOS,
    DOCTOR,
)
COMMANDS: Mapping[str, Command] = {command.name: command for command in _ALL}

__all__ = ["COMMANDS", "Command"]
