"""The commands of the command line, by name."""

from collections.abc import Mapping

from client.commands.batch import BATCH
from client.commands.classify import CLASSIFY
from client.commands.command import Command
from client.commands.requests import CANCEL, GET, SUBMIT, WATCH
from client.commands.system import QUEUES, STATUS, WORKERS

COMMANDS: Mapping[str, Command] = {
    command.name: command for command in (CLASSIFY, SUBMIT, GET, WATCH, CANCEL, BATCH, STATUS, QUEUES, WORKERS)
}

__all__ = ["COMMANDS", "Command"]
