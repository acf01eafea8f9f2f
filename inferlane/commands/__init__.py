"""The commands of the command line, by name."""

from collections.abc import Mapping

from inferlane.commands.batch import BATCH
from inferlane.commands.classify import CLASSIFY
from inferlane.commands.command import Command
from inferlane.commands.completion import COMPLETION
from inferlane.commands.doctor import DOCTOR
from inferlane.commands.host import DEMO, SCALE, START, STOP
from inferlane.commands.keys import AUDIT, KEYS
from inferlane.commands.load import LOAD
from inferlane.commands.operators import CHAOS, DEAD_LETTERS
from inferlane.commands.own_model import INIT, SERVE
from inferlane.commands.requests import CANCEL, GET, LIST, SUBMIT
from inferlane.commands.system import METRICS, MODELS, MONITOR, QUEUES, STATUS, WORKERS
from inferlane.commands.watch import WATCH

_ALL = (
    *(START, STOP, SCALE, DEMO, INIT, SERVE),
    *(CLASSIFY, SUBMIT, GET, WATCH, CANCEL, LIST, BATCH),
    *(STATUS, METRICS, QUEUES, WORKERS, MODELS, MONITOR, DEAD_LETTERS, KEYS, AUDIT, LOAD, CHAOS, DOCTOR, COMPLETION),
)
COMMANDS: Mapping[str, Command] = {command.name: command for command in _ALL}

__all__ = ["COMMANDS", "Command"]
