"""Scaling: more or fewer workers of a model, on a host where ``make start`` runs this API and the workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from api.http.problems import Problem
from common.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
#: The variable that ``make start`` gives its processes (scripts/probes.py): their run directory.
MARK = "INFERLANE_RUN_DIR"
#: Most workers of a model; seconds in which an order shows that it cannot be carried out, and in which a worker starts.
MOST_WORKERS, PATIENCE, STARTS = 64, 3.0, 30.0


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

    def order(self, model: str, workers: int) -> None:
        """Have so many workers of a model here; new ones need some seconds to start.

        Raises:
            Problem: this host has no workers of this model, or the command refuses; its words are the detail.
        """
        if self._folder is None or model not in self.replicas():
            raise Problem("unknown_model", f"No supervisor of this API's host runs workers of {model}.")
        environ = {name: value for name, value in os.environ.items() if name != MARK}
        log = self._folder / "logs" / "scale.log"
        with log.open("w") as written:  # the command may outlive this process
            command = subprocess.Popen(  # noqa: S603 - the model is one of our own list
                [sys.executable, "-m", "scripts", "scale", f"{model}={workers}"],
                cwd=ROOT, env=environ, stdout=written, stderr=written, start_new_session=True,
            )  # fmt: skip
        try:
            failed = command.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return
        if failed:
            raise Problem("refused", log.read_text().strip() or "make scale failed")
