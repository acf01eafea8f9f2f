"""The circumstances of a measurement: machine, versions, commit, photo."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from importlib.metadata import Distribution, version
from pathlib import Path
from typing import Any

import psutil

from bench.trees import ROOT

PHOTO = ROOT / "docs" / "images" / "rocket.jpg"
RESULTS = ROOT / "bench" / "results"
JOURNALS = ROOT / ".run" / "bench" / "journals"
_PACKAGES = (
    "celery", "kombu", "redis", "hiredis", "flask", "granian", "onnxruntime", "numpy", "pillow", "simplejpeg",
    "cykooz.resizer",
)  # fmt: skip


def facts(module: str) -> dict[str, Any]:
    """The head of every results file; ``module`` was run with ``python -m``."""
    return {
        "command": shlex.join(["python", "-m", module, *map(_told, sys.argv[1:])]),
        "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "commit": commit(),
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "load_before": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "kernel": platform.release(),
        },
        "versions": {name: version(name) for name in _PACKAGES if any(Distribution.discover(name=name))},
        "photo_bytes": PHOTO.stat().st_size,
    }


def commit() -> str:
    """The commit that is checked out, with ``+`` when the tree differs from it; empty outside of a repository."""
    found = _output(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    changed = _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return found + ("+" if changed else "")


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _told(word: str) -> str:
    """A word of the command line, without the folders of this machine."""
    return Path(word).name if word.startswith("/") else word


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
