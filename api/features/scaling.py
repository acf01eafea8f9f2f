"""Scaling: more or fewer workers of a model, on a host where ``make start`` runs this API and the workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from api.http.problems import HttpProblem
from common.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
#: The variable that ``make start`` gives its processes (scripts/probes.py): their run directory.
MARK = "INFERLANE_RUN_DIR"
MOST_WORKERS = 64
#: Seconds for new workers to start, to wait for the command, and for a worker to end after it.
STARTS, PATIENCE, ENDS = 20.0, 28.0, 60.0


class Scaling:
    """Calls the command ``scale``, which knows the supervisor."""

    def __init__(self, settings: Settings) -> None:
        folder = Path(settings.run_dir).resolve()
        self._folder = folder if os.environ.get(MARK) == str(folder) else None

    def replicas(self) -> dict[str, int]:
        """Model -> its workers on this host; empty where this process has no supervisor of ours."""
        file = self._folder and self._folder / "replicas.json"
        found: dict[str, int] = json.loads(file.read_text()) if file and file.exists() else {}
        return found

    def order(self, model: str, workers: int) -> float:
        """Scale to ``workers`` workers here and wait until they run; returns the seconds until surplus ones have ended.

        Raises:
            HttpProblem: this host runs no workers of the model, or the command fails; its message is the detail.
        """
        if self._folder is None:
            raise HttpProblem(
                "not_supervised", "This API runs without `make start`: scale workers where they were started."
            )
        if model not in (here := self.replicas()):
            raise HttpProblem(
                "unknown_model", f"`make start` runs no workers of {model} here; it runs {', '.join(here)}."
            )
        environ = {name: value for name, value in os.environ.items() if name != MARK}
        log = self._folder / "logs" / "scale.log"
        with log.open("w") as written:  # the command may outlive this process
            command = subprocess.Popen(  # noqa: S603 - the model is one of our own list
                [sys.executable, "-m", "scripts", "scale", "--json", f"--within={STARTS}", f"{model}={workers}"],
                cwd=ROOT, env=environ, stdout=written, stderr=written, start_new_session=True,
            )  # fmt: skip
        try:
            if command.wait(PATIENCE):
                raise _problem(log.read_text())
        except subprocess.TimeoutExpired:  # ending workers still have requests
            return ENDS
        return 0.0


def _problem(said: str) -> HttpProblem:
    """The problem in the command's last line: the message's first line, and the last of a worker's log."""
    line = (said.splitlines() or ["make scale failed"])[-1]
    try:
        error = json.loads(line)["error"]
    except (ValueError, TypeError, LookupError):  # it crashed
        return HttpProblem("scale_failed", line)
    first, *rest = error["message"].splitlines()
    return HttpProblem("refused" if error["retryable"] else "scale_failed", " ".join([first, *rest[-1:]]))
