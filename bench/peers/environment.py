"""Virtual environments, one per peer, kept under ``.run/bench/venvs``."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from bench.budget import say
from bench.trees import ROOT

REQUIREMENTS = Path(__file__).parent / "requirements"
FOLDER = ROOT / ".run" / "bench" / "venvs"


class EnvironmentFailed(RuntimeError):
    """A peer could not be installed; the message has the end of what pip said."""


def prepare(name: str, folder: Path = FOLDER) -> Path:
    """The ``bin`` folder of the peer's environment, made or brought up to date now if need be.

    Raises:
        EnvironmentFailed: pip failed; the other peers can still be measured.
    """
    venv, wanted = folder / name, fingerprint(name)
    stamp = venv / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"installing {name} (minutes the first time)")
        if not (venv / "bin" / "python").exists():
            _run([sys.executable, "-m", "venv", str(venv)], name)
        python = str(venv / "bin" / "python")
        _run([python, "-m", "pip", "install", "--quiet", "--requirement", str(_file(name))], name)
        stamp.write_text(wanted)
    return venv / "bin"


def fingerprint(name: str) -> str:
    """A hash of the packages to install."""
    return hashlib.sha256(_file("common").read_bytes() + _file(name).read_bytes()).hexdigest()


def version(binaries: Path, package: str) -> str:
    """The installed version of a package of this environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([binaries / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _file(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFailed(f"{name}: {(done.stdout + done.stderr)[-1500:]}")
