"""Write down exactly what is installed (``make lock``): versions in ``constraints.txt``, hashes in ``locks/``.

``constraints.txt`` has the version of every package of this environment, in which all tests have passed. ``locks/``
has, for each ``requirements*.txt``, every package it brings on any platform with the hashes of all its files, so that
pip takes no file that the index did not have when the lock was written. A lock includes others as its requirements do.

torch, torchvision and the libraries they bring are left out: a build for CPUs, for CUDA or for a Mac is another file
from another index under the same version. They are installed by version in a second step, see ``setup.sh``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"
HEADING = "# Written by `make lock` from an environment in which all tests pass. Used by requirements.txt.\n"
LOCK_HEADING = "# Written by `make lock`: {source} with all it brings and the hash of every file of it.\n"
#: What the locks are for; setup.sh takes no other. One lock has the packages of all.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TOOLS = {"pip", "setuptools", "wheel"}
#: What differs by platform and index, and what comes along with it only.
UNHASHED = re.compile(r"(torch|torchvision|triton|setuptools|nvidia-.*|cuda-.*)$")
#: Every lock, by the requirements it pins; each comes after those it includes.
SOURCES = {
    "base": "requirements-base.txt",
    "api": "requirements-api.txt",
    "worker": "requirements-worker.txt",
    "torch": "requirements-torch.txt",
    "all": "requirements.txt",
    "otel": "requirements-otel.txt",
    "dev": "requirements-dev.txt",
}


def pins() -> list[str]:
    """One ``name==version`` line per installed package; a local version such as ``+cpu`` is left off."""
    found = {item.metadata["Name"].lower().replace("_", "-"): item.version for item in distributions()}
    return [f"{name}=={version.split('+')[0]}" for name, version in sorted(found.items()) if name not in TOOLS]


def included(source: str) -> list[str]:
    """The locks that the lock of ``source`` includes, because the requirements do."""
    names = re.findall(r"^-r (\S+)", (ROOT / source).read_text(), re.MULTILINE)
    return [lock for lock, file in SOURCES.items() if file in names]


def resolve(source: str) -> dict[str, str]:
    """Name -> its lines in a lock (version, platforms, hashes), for everything ``source`` brings on any platform."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", PYTHONS[0],
        "--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", source,
    ]  # fmt: skip
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.finditer(r"^([A-Za-z0-9][\w.-]*)==.*(?:\n +.*)*", text, re.MULTILINE)
    return {entry[1]: entry[0] for entry in found if not UNHASHED.match(entry[1])}


def write_locks() -> None:
    """Resolve every requirements file and write its lock, without what an included lock has."""
    LOCKS.mkdir(exist_ok=True)
    has: dict[str, dict[str, str]] = {}
    for lock, source in SOURCES.items():
        has[lock] = resolve(source)
        others = included(source)
        there = {block for other in others for block in has[other].values()}
        lines = [f"-r {other}.txt" for other in others]
        lines += [block for _, block in sorted(has[lock].items()) if block not in there]
        (LOCKS / f"{lock}.txt").write_text(LOCK_HEADING.format(source=source) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(HEADING + "\n".join(pins()) + "\n")
    write_locks()
