"""The programs of this host: the Procfile's lines, with the ``worker`` line repeated for each model and replica."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from honcho.environ import parse_procfile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
WORKER = "worker"

# Seconds to end after SIGTERM, for what may be busy then.
STOP_SECONDS = {"api": 45, WORKER: 60, "broker": 30, "flower": 3}


class OperationError(RuntimeError):
    """A command cannot be carried out; the message says why and ends it."""


@dataclass(frozen=True)
class Program:
    """One process to keep running: its name, its shell command line, and its own variables."""

    name: str
    kind: str
    command: str
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def stop_seconds(self) -> int:
        """How long it may take to end after SIGTERM."""
        return STOP_SECONDS.get(self.kind, 10)


def kinds() -> dict[str, str]:
    """The lines of the Procfile: kind of process -> command."""
    lines: dict[str, str] = parse_procfile((ROOT / "Procfile").read_text()).processes
    return lines


def programs(replicas: Mapping[str, int], *, without: Sequence[str] = ()) -> list[Program]:
    """Every program of this host.

    Args:
        replicas: how many workers each model gets.
        without: Procfile names to leave out, for example ``dashboard``.
    """
    found: list[Program] = []
    for kind, command in kinds().items():
        if kind in without:
            continue
        found += workers(command, replicas) if kind == WORKER else [Program(kind, kind, command)]
    return found


def workers(command: str, replicas: Mapping[str, int]) -> list[Program]:
    """One program per worker. Each knows how many share the host, so that together they use its cores once."""
    total = sum(replicas.values())
    return [
        Program(
            name=worker_name(model, number),
            kind=WORKER,
            command=command,
            environ={"MODEL": model, "REPLICA": str(number), "WORKERS_ON_HOST": str(total)},
        )
        for model, count in replicas.items()
        for number in range(1, count + 1)
    ]


def worker_name(model: str, number: int) -> str:
    """The program name of one worker; characters that mean something to supervisord become dashes."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{WORKER}-{model}-{number}")
