"""Lock the dependency groups of pyproject.toml: ``make lock``; arguments such as ``--upgrade`` go to uv.

``scripts/requirements.lock`` pins every package of every group, on any platform, with the hashes of its files,
under headings that name the groups; ``scripts/setup.sh`` installs one group from it. ``requirements.txt`` has the
versions of the group ``all``, for pip alone.

torch and torchvision are locked by version, without hashes: a build for CPUs, for CUDA or for a Mac is another file
from another index under the same version. What only they need is not locked.
"""

import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "scripts" / "requirements.lock"
REQUIREMENTS = ROOT / "requirements.txt"
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
#: The supported versions; setup.sh refuses others.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
BY_VERSION = {"torch", "torchvision"}
UNLOCKED = re.compile(r"setuptools|triton|nvidia-.*|cuda-.*")


def resolve(group: str, *options: str) -> dict[str, str]:
    """Name -> its lines of a requirements file, for everything that ``group`` needs on any platform."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", PYTHONS[0], "--no-annotate",
        "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--group", group, *options,
    ]  # fmt: skip
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.finditer(r"^([a-z0-9][\w.-]*)==.*(?:\n +.*)*", text, re.MULTILINE)
    return {entry[1]: entry[0] for entry in found if not UNLOCKED.fullmatch(entry[1])}


def main() -> None:
    """Write both files. uv keeps the versions of the lock that it finds, unless an argument asks for an upgrade."""
    locked = resolve("dev", "--generate-hashes", "--output-file", str(LOCK), *sys.argv[1:])
    needs = {group: resolve(group, "--constraints", str(LOCK)) for group in GROUPS}
    sections: dict[str, list[str]] = defaultdict(list)
    for name, lines in locked.items():
        groups = " ".join(group for group in GROUPS if name in needs[group])
        version = lines.split(" \\")[0]
        sections[groups].append(f"# by version: {version}" if name in BY_VERSION else lines)
    text = "".join(f"# groups: {groups}\n" + "\n".join(lines) + "\n" for groups, lines in sections.items())
    LOCK.write_text("# Written by `make lock`, see scripts/lock.py.\n" + text)
    versions = [locked[name].split(" \\")[0] for name in needs["all"]]
    REQUIREMENTS.write_text(
        "# Written by `make lock` from pyproject.toml: everything on one host, with torch.\n"
        + "\n".join(versions)
        + "\n"
    )


if __name__ == "__main__":
    main()
