"""Write constraints.txt: the version of every package in this environment, direct or not (``make lock``)."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADING = "# Written by `make lock` from an environment in which all tests pass. Used by requirements.txt.\n"
TOOLS = {"pip", "setuptools", "wheel"}


def pins() -> list[str]:
    """One ``name==version`` line per installed package; a local version such as ``+cpu`` is left off."""
    found = {item.metadata["Name"].lower().replace("_", "-"): item.version for item in distributions()}
    return [f"{name}=={version.split('+')[0]}" for name, version in sorted(found.items()) if name not in TOOLS]


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(HEADING + "\n".join(pins()) + "\n")
